"""The agents' answers to a run's tasks, durably: who was asked, what came in, what was refused."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from llmagentos.errors import Damaged, JournalError
from llmagentos.journal.interrupts import unbroken
from llmagentos.journal.records import Records
from llmagentos.messages import Failure, Kind, Task, Update, decode

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """An update as it was counted: mapped from its file, with its norm and its bytes."""

    update: Update
    squared_norm: float
    size_bytes: int


class Answers:
    """The answers of one run, in the records of its journal; their bodies are files beside them."""

    def __init__(self, rows: Records) -> None:
        self._rows = rows
        self._files = rows.files

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

    def admitted(self, round_: int, kind: Kind) -> list[Answer]:
        """The updates of a round in the order of their agents' names."""
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
        """Admitted updates that no closed round has counted, in the order they came in."""
        rows = self._rows.execute("SELECT agent, body, squared_norm FROM waiting")
        return [self._answer(*row) for row in rows]

    def withdraw(self, agent: str, reason: str) -> None:
        """The agent's update that waits to be counted is refused after all."""
        with unbroken():
            self._rows.execute(
                "UPDATE answers SET body=NULL, refused=? WHERE rowid IN"
                " (SELECT place FROM waiting WHERE agent=?)",
                (reason, agent),
            )

    def refused_meanwhile(self, count: int) -> dict[str, str]:
        """Whose training was refused, and why, since the last update that was counted.

        What came after the ``count`` updates that wait longest is left to later rounds.
        """
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

    def forgive(self, round_: int) -> None:
        """Drop the refusals of a round that cannot close, so that it asks again when resumed."""
        self._rows.execute("DELETE FROM answers WHERE round=? AND body IS NULL", (round_,))

    def bodies(self, *, updates: bool) -> set[str]:
        """The files of answers that a later step may read, those of all updates if ``updates``."""
        kinds = ("measure", "fit" if updates else "measure")
        found = self._rows.execute(
            "SELECT body FROM answers WHERE body IS NOT NULL AND (kind IN (?, ?) OR round>="
            " (SELECT max(round) FROM rounds) OR rowid IN (SELECT place FROM waiting))",
            kinds,
        )
        return {name for (name,) in found}

    def mend(self) -> set[str]:
        """The files that the answers name; rows of files that a crash has lost go.

        Of closed rounds only those rows that are still to be counted.
        """
        rows = self._rows.execute("SELECT rowid, round, body FROM answers WHERE body IS NOT NULL")
        (open_round,) = self._rows.first("SELECT max(round) FROM rounds")
        waiting = {place for (place,) in self._rows.execute("SELECT place FROM waiting")}
        for row, round_, name in rows:
            if round_ >= (open_round or 0) or row in waiting:
                self._drop_if_lost(row, name)
        return {name for *_, name in rows}

    def _drop_if_lost(self, row: int, name: str) -> None:
        try:
            self._files.map(name)
        except Damaged as error:
            log.warning("%s; the agent is asked again", error)
            self._rows.execute("DELETE FROM answers WHERE rowid=?", (row,))
            self._files.drop(name)
