"""What happened in a run, durably: rows in SQLite, vectors in content-addressed files.

A row is committed only after the file that it names is on the disk, and closing round r and opening
round r+1 is one transaction. So a run that is killed anywhere goes on from here, and ends with
the bits of a run that never was.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from llmagentos.codecs import pack_file, unpack
from llmagentos.errors import Damaged, JournalError
from llmagentos.journal.answers import Answers
from llmagentos.journal.interrupts import unbroken
from llmagentos.journal.records import Records
from llmagentos.journal.schema import NEEDED, SCHEMA
from llmagentos.layout import Layout
from llmagentos.state import ServerState, restored


class Journal:
    """The truth about one run; one process at a time may hold it.

    ``answers`` are those of the agents.
    Raises ``JournalError`` when another process holds the folder or a file of it is damaged, and
    ``DiskFull`` when there is no room; what was kept before stays.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with ExitStack() as opened:
            self._rows = opened.enter_context(closing(Records(folder, SCHEMA)))
            self._files = self._rows.files
            self.answers = Answers(self._rows)
            self._mend()
            opened.pop_all()

    def close(self) -> None:
        """Let another process have the run."""
        self._rows.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(
        self, layout: Layout, facts: Mapping[str, str], first: Callable[[], ServerState]
    ) -> str:
        """The run's id; a new journal opens its first round with the state that ``first`` makes.

        ``facts`` are what may not change, such as the hash of the base model: ``JournalError``
        when the journal began with others.
        """
        facts = {**facts, "layout": layout.to_json()}
        known = dict(self._rows.execute("SELECT name, value FROM facts"))
        if not known:
            known = {"run": secrets.token_hex(8), **facts}
            self._open(first(), known)
        for name, value in facts.items():
            if known.get(name) != value:
                raise JournalError(
                    f"{self.folder} began with another {name}; resume with the same, or start anew"
                )
        return str(known["run"])

    @property
    def run(self) -> str:
        """The id of the run that began here."""
        (value,) = self._rows.kept("SELECT value FROM facts WHERE name='run'")
        return str(value)

    def _open(self, state: ServerState, facts: Mapping[str, str]) -> None:
        body = self._put_state(state)
        with self._rows.transaction():
            for fact in facts.items():
                self._rows.execute("INSERT INTO facts VALUES (?, ?)", fact)
            self._insert_round(state.round, body)

    def state(self, round_: int | None = None) -> ServerState:
        """The state of a round, the open one unless given; closed ones go when ``forget`` says."""
        round_, body = self._rows.kept(
            "SELECT round, state FROM rounds WHERE round=coalesce(?, (SELECT max(round)"
            " FROM rounds))",
            (round_,),
        )
        (layout,) = self._rows.kept("SELECT value FROM facts WHERE name='layout'")
        try:
            _, vectors = unpack(self._files.map(body))
        except Damaged as error:
            raise JournalError(f"the state of round {round_} is lost: {error}") from error
        return restored(round_, Layout.from_json(layout), vectors)

    def first_agents(self, agents: Iterable[str]) -> set[str]:
        """Who took part when this was first asked, with the agents of that moment."""
        with unbroken():
            self._rows.execute(
                "INSERT OR IGNORE INTO facts VALUES ('agents', ?)", (json.dumps(sorted(agents)),)
            )
        (text,) = self._rows.kept("SELECT value FROM facts WHERE name='agents'")
        return set(self._rows.parsed(text))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All answers that are kept inside are on the disk at its end, or none is."""
        with unbroken(), self._rows.transaction():
            yield

    def receipt(self, agent: str, before: int) -> int | None:
        """The last round before a given one that counted an agent."""
        found = self._rows.first(
            "SELECT round FROM rounds WHERE round<? AND EXISTS"
            " (SELECT 1 FROM json_each(members) WHERE value=?) ORDER BY round DESC LIMIT 1",
            (before, agent),
        )
        return found[0] if found else None

    def members(self, round_: int) -> list[str] | None:
        """Who counts in a round, once that is decided."""
        (text,) = self._rows.kept("SELECT members FROM rounds WHERE round=?", (round_,))
        return None if text is None else list(self._rows.parsed(text))

    def decide(self, round_: int, members: Sequence[str]) -> None:
        """Fix who counts in a round; evaluations of what other members came to are dropped."""
        with self.together():
            self._rows.execute(
                "UPDATE rounds SET members=? WHERE round=?", (json.dumps(members), round_)
            )
            self._rows.execute("DELETE FROM answers WHERE round=? AND kind='evaluate'", (round_,))

    def close_round(self, state: ServerState, report: Mapping[str, Any]) -> None:
        """Close the open round with its report and open the next one with its state."""
        with unbroken():
            body = self._put_state(state)
            with self._rows.transaction():
                self._rows.execute(
                    "UPDATE rounds SET report=? WHERE round=?",
                    (json.dumps(report), state.round - 1),
                )
                self._insert_round(state.round, body)

    def reports(self) -> list[dict[str, Any]]:
        """The reports of the closed rounds, in order."""
        rows = self._rows.execute(
            "SELECT report FROM rounds WHERE report IS NOT NULL ORDER BY round"
        )
        return [self._rows.parsed(report) for (report,) in rows]

    def forget(self, *, updates: bool) -> None:
        """Delete what closed rounds leave behind: states, and answers whose numbers are reported.

        The agents' updates too if ``updates``. Their rows stay, and with them their hashes.
        """
        states = {name for (name,) in self._rows.execute(NEEDED)}
        self._files.keep(states | self.answers.bodies(updates=not updates))

    def _mend(self) -> None:
        """After a crash: files that no row names go, and so do rows of lost files."""
        states = {name for (name,) in self._rows.execute(NEEDED)}
        self._files.keep(states | self.answers.mend())

    def _put_state(self, state: ServerState) -> str:
        header, vectors = {"round": state.round}, state.vectors()
        return self._files.put_written(lambda path: pack_file(path, header, vectors))

    def _insert_round(self, round_: int, state: str) -> None:
        self._rows.execute("INSERT INTO rounds (round, state) VALUES (?, ?)", (round_, state))
