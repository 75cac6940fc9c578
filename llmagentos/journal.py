"""What happened in a run, durably: rows in SQLite, vectors in content-addressed files.

A row is committed only after the file that it names is on the disk, and closing round r and opening
round r+1 is one transaction. So a run that is killed anywhere goes on from here, and ends with
the bits of a run that never was.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmagentos.codecs import pack_file, unpack
from llmagentos.errors import Damaged, JournalError
from llmagentos.interrupts import unbroken
from llmagentos.layout import Layout
from llmagentos.messages import Failure, Kind, Task, Update, decode
from llmagentos.records import Records
from llmagentos.schema import NEEDED, SCHEMA
from llmagentos.state import ServerState, restored

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """An update as it was counted: mapped from its file, with its norm and its bytes."""

    update: Update
    squared_norm: float
    size_bytes: int


class Journal:
    """The truth about one run; one process at a time may hold it.

    Raises ``JournalError`` when another process holds the folder or a file of it is damaged, and
    ``DiskFull`` when there is no room; what was kept before stays.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._rows = Records(folder, SCHEMA)
        self._files = self._rows.files
        self._mend()

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
        (value,) = self._rows.first("SELECT value FROM facts WHERE name='run'")
        return str(value)

    def _open(self, state: ServerState, facts: Mapping[str, str]) -> None:
        body = self._put_state(state)
        with self._rows.transaction():
            for fact in facts.items():
                self._rows.execute("INSERT INTO facts VALUES (?, ?)", fact)
            self._insert_round(state.round, body)

    def state(self, round_: int | None = None) -> ServerState:
        """The state of a round, the open one unless given; closed ones go when ``forget`` says."""
        round_, body = self._rows.first(
            "SELECT round, state FROM rounds WHERE round=coalesce(?, (SELECT max(round)"
            " FROM rounds))",
            (round_,),
        )
        (layout,) = self._rows.first("SELECT value FROM facts WHERE name='layout'")
        try:
            _, vectors = unpack(self._files.map(body))
        except Damaged as error:
            raise JournalError(f"the state of round {round_} is lost: {error}") from error
        return restored(round_, Layout.from_json(layout), vectors)

    def ask(self, tasks: Sequence[Task]) -> None:
        """Note who is asked and since when, for those who look at the run."""
        asked = [(task.round, task.kind, task.agent, time.time()) for task in tasks]
        with unbroken(), self._rows.transaction():
            for row in asked:
                self._rows.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?)", row)

    def repeats(self, answer: Update | Failure, task: Task) -> bool:
        """Whether it answers not this task but another one that has its answer."""
        return (answer.round, answer.kind) != (task.round, task.kind) and self.answered(answer)

    def answered(self, task: Task | Update | Failure) -> bool:
        """Whether the task has its answer, good or refused; a second one is not wanted."""
        return bool(
            self._rows.first(
                "SELECT 1 FROM answers WHERE round=? AND kind=? AND agent=?",
                (task.round, task.kind, task.agent),
            )
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        """All answers that are kept inside are on the disk at its end, or none is."""
        with unbroken(), self._rows.transaction():
            yield

    def record(self, task: Task, body: bytes, squared_norm: float) -> None:
        """Keep an admitted update; a repeat is dropped."""
        with unbroken():
            self._insert_answer(task, self._files.put(body), squared_norm, None)

    def refuse(self, task: Task, reason: str) -> None:
        """Keep why an agent has no update in this round."""
        with unbroken():
            self._insert_answer(task, None, None, reason)

    def _insert_answer(
        self, task: Task, body: str | None, squared_norm: float | None, refused: str | None
    ) -> None:
        key = (task.round, task.kind, task.agent)
        values = (*key, body, squared_norm, refused)
        self._rows.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", values)

    def refusals(self, round_: int, kind: Kind) -> dict[str, str]:
        """Agent to reason, of a round's answers that were refused."""
        return dict(
            self._rows.execute(
                "SELECT agent, refused FROM answers WHERE round=? AND kind=? AND body IS NULL"
                " ORDER BY agent",
                (round_, kind),
            )
        )

    def answers(self, round_: int, kind: Kind) -> list[Answer]:
        """The admitted updates of a round in the order of their agents' names."""
        rows = self._rows.execute(
            "SELECT agent, body, squared_norm FROM answers"
            " WHERE round=? AND kind=? AND body IS NOT NULL ORDER BY agent",
            (round_, kind),
        )
        return [self._answer(*row) for row in rows]

    def _answer(self, agent: str, name: str, squared_norm: float) -> Answer:
        try:
            body = self._files.map(name)
        except Damaged as error:
            raise JournalError(
                f"an answer of {agent!r} is lost, resume asks again: {error}"
            ) from error
        update = decode(body)
        assert isinstance(update, Update)
        return Answer(update, squared_norm, len(body))

    def waiting(self) -> list[Answer]:
        """The admitted updates that no closed round has counted, in the order they came in."""
        rows = self._rows.execute("SELECT agent, body, squared_norm FROM waiting")
        return [self._answer(*row) for row in rows]

    def refused_meanwhile(self, count: int) -> dict[str, str]:
        """Agent to reason, of training refused after what is counted, up to ``count`` that wait."""
        return dict(
            self._rows.execute(
                "SELECT agent, refused FROM answers WHERE kind='fit' AND body IS NULL"
                " AND rowid > (SELECT coalesce(max(rowid), 0) FROM answers WHERE kind='fit'"
                " AND body IS NOT NULL AND rowid < (SELECT min(place) FROM waiting))"
                " AND rowid < (SELECT place FROM waiting LIMIT 1 OFFSET ?) ORDER BY agent",
                (count - 1,),
            )
        )

    def open_tasks(self) -> list[tuple[str, int]]:
        """Agent and round of the fit tasks that have no answer, in the order they were asked."""
        return self._rows.execute("SELECT agent, round FROM unanswered")

    def last_answer(self, agent: str, before: int) -> int | None:
        """The last round before a given one that has an admitted update of an agent."""
        (found,) = self._rows.first(
            "SELECT max(round) FROM answers WHERE kind='fit' AND agent=? AND round<?"
            " AND body IS NOT NULL",
            (agent, before),
        )
        return found if found is None else int(found)

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
        (text,) = self._rows.first("SELECT members FROM rounds WHERE round=?", (round_,))
        return None if text is None else list(json.loads(text))

    def decide(self, round_: int, members: Sequence[str]) -> None:
        """Fix who counts in a round."""
        with unbroken():
            self._rows.execute(
                "UPDATE rounds SET members=? WHERE round=?", (json.dumps(members), round_)
            )

    def forgive(self, round_: int) -> None:
        """Drop the refusals of a round that cannot close, so that it asks again when resumed."""
        self._rows.execute("DELETE FROM answers WHERE round=? AND body IS NULL", (round_,))

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
        return [json.loads(report) for (report,) in rows]

    def forget(self, *, updates: bool) -> None:
        """Delete what closed rounds leave behind: states, and answers whose numbers are reported.

        The agents' updates too if ``updates``. Their rows stay, and with them their hashes.
        """
        spared = ("measure", "measure" if updates else "fit")
        bodies = self._rows.execute(
            "SELECT body FROM answers WHERE body IS NOT NULL AND (kind IN (?, ?) OR round>="
            " (SELECT max(round) FROM rounds) OR rowid IN (SELECT place FROM waiting))",
            spared,
        )
        self._files.keep({name for (name,) in [*self._rows.execute(NEEDED), *bodies]})

    def _mend(self) -> None:
        """After a crash: files that no row names go, and so do rows of lost files.

        Of closed rounds only those rows that are still to be counted.
        """
        rows = self._rows.execute("SELECT rowid, round, body FROM answers WHERE body IS NOT NULL")
        self._files.keep(
            {name for (name,) in self._rows.execute(NEEDED)} | {name for *_, name in rows}
        )
        (open_round,) = self._rows.first("SELECT max(round) FROM rounds")
        waiting = {place for (place,) in self._rows.execute("SELECT place FROM waiting")}
        for row, round_, name in rows:
            if round_ >= (open_round or 0) or row in waiting:
                self._drop_if_lost(row, name)

    def _drop_if_lost(self, row: int, name: str) -> None:
        try:
            self._files.map(name)
        except Damaged as error:
            log.warning("%s; the agent is asked again", error)
            self._rows.execute("DELETE FROM answers WHERE rowid=?", (row,))
            self._files.drop(name)

    def _put_state(self, state: ServerState) -> str:
        header, vectors = {"round": state.round}, state.vectors()
        return self._files.put_written(lambda path: pack_file(path, header, vectors))

    def _insert_round(self, round_: int, state: str) -> None:
        self._rows.execute("INSERT INTO rounds (round, state) VALUES (?, ?)", (round_, state))
