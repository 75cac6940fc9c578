"""What an agent has answered, durably: rows in SQLite, answers in content-addressed files."""

import logging
from contextlib import ExitStack, closing
from pathlib import Path

from llmagentos.errors import Damaged, JournalError, Refused
from llmagentos.files import make_folder
from llmagentos.journal import Records
from llmagentos.messages import Task

log = logging.getLogger(__name__)

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers"
    " (number INTEGER PRIMARY KEY, run TEXT, round INTEGER, kind TEXT, asked TEXT, body TEXT,"
    " UNIQUE (run, round, kind))"
)
KEPT = 16
"""So many last answers are kept whole; of older ones it is known that they were given."""


class AgentJournal:
    """The answers that one agent has given; one process at a time may hold it.

    An answer is on the disk before it leaves. A task that is asked again gets the same bytes, and
    what was answered once is never answered otherwise.
    Raises ``JournalError`` when another process holds the folder or it cannot be written, and
    ``DiskFull`` when there is no room.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        with ExitStack() as opened:
            self._rows = opened.enter_context(closing(Records(folder, [SCHEMA])))
            self._files = self._rows.files
            self._tidy()
            opened.pop_all()

    def close(self) -> None:
        """Let another process have the agent's place."""
        self._rows.close()

    def __enter__(self) -> "AgentJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, task: Task, asked: str) -> bytes | None:
        """The bytes that answered the task before, if any did; ``asked`` is its payload's hash.

        Raises ``Refused`` for another task under an answered key, and for one that is over.
        """
        known = self._rows.first(
            "SELECT asked, body FROM answers WHERE run=? AND round=? AND kind=?", _key(task)
        )
        if known is None:
            self._check_order(task)
            return None
        if known[0] != asked:
            raise Refused(f"{task.kind} of round {task.round} was answered for another task")
        if known[1] is None:
            raise Refused(f"{task.kind} of round {task.round} was answered long ago")
        try:
            return bytes(self._files.map(known[1]))
        except Damaged as error:
            log.warning("%s; the task is done again", error)
            self._files.drop(known[1])
            self._rows.execute("DELETE FROM answers WHERE run=? AND round=? AND kind=?", _key(task))
            return None

    def _check_order(self, task: Task) -> None:
        """A run's training goes forward: what came before the last answer is over."""
        (last,) = self._rows.first(
            "SELECT max(round) FROM answers WHERE run=? AND kind='fit'", (task.run,)
        )
        if task.kind == "fit" and last is not None and task.round < last:
            raise Refused(f"round {task.round} is over: round {last} was answered")

    def keep(self, task: Task, asked: str, body: bytes) -> None:
        """The answer is on the disk."""
        try:
            name = self._files.put(body)
        except OSError as error:
            raise JournalError(f"{self.folder} cannot be written: {error}") from error
        self._rows.execute(
            "INSERT INTO answers (run, round, kind, asked, body) VALUES (?, ?, ?, ?, ?)",
            (*_key(task), asked, name),
        )
        self._tidy()

    def _tidy(self) -> None:
        """Only the bodies of the last answers are left."""
        self._rows.execute(
            "UPDATE answers SET body=NULL WHERE body IS NOT NULL"
            " AND number <= (SELECT max(number) FROM answers) - ?",
            (KEPT,),
        )
        bodies = self._rows.execute("SELECT body FROM answers WHERE body IS NOT NULL")
        self._files.keep({name for (name,) in bodies})


def _key(task: Task) -> tuple[str, int, str]:
    return task.run, task.round, task.kind
