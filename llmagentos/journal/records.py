"""A folder that one process at a time holds: rows in SQLite, and the files that they name."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from llmagentos.errors import DiskFull, JournalError
from llmagentos.journal.store import Store

PATIENCE_S = 1.0
"""How long a folder is waited for that another process looks into for a moment."""

FULL = ("database or disk is full", "disk I/O error")
"""What SQLite says where there is no room; the second of a quota, or the largest allowed file."""


class Records:
    """What a journal is made of; ``files`` has the bodies, and a row is on the disk when it is in.

    Raises ``JournalError`` when another process holds the folder or it cannot be used, and
    ``DiskFull`` when there is no room.
    """

    def __init__(self, folder: Path, schema: Sequence[str]) -> None:
        self.folder = folder
        with ExitStack() as opened:
            opened.enter_context(_held(folder))
            self.files = Store(folder / "cas")
            self._rows = opened.enter_context(closing(_connection(folder / "journal.sqlite")))
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *schema):
                self.execute(statement)
            self._opened = opened.pop_all()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a statement finds, all read: what is damaged shows then, not before."""
        with _told_of(self.folder):
            return self._rows.execute(statement, values).fetchall()

    def parsed(self, text: str) -> Any:
        """What a row keeps as JSON."""
        with _told_of(self.folder):
            return json.loads(text)

    def first(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first row that a statement finds, or ``None``."""
        return next(iter(self.execute(statement, values)), None)

    def kept(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The same of a row that a journal does not lose by itself: ``JournalError`` without it."""
        row = self.first(statement, values)
        if row is None:
            raise JournalError(f"{self.folder} cannot be used: a row that it began with is gone")
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is on the disk at its end, or none is."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # A full disk ends the transaction by itself.
            if self._rows.in_transaction:
                self.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let another process have the folder."""
        self._opened.close()


def _held(folder: Path) -> AbstractContextManager[object]:
    """A folder that no other process holds meanwhile."""
    try:
        return FileLock(folder / "lock", timeout=PATIENCE_S).acquire()
    except Timeout:
        raise JournalError(f"{folder} is in use by another process; wait for it") from None


def _connection(path: Path) -> sqlite3.Connection:
    """An agent answers in another thread than the one that opened its journal."""
    with _told_of(path.parent):
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Rows that cannot be written or read are an error of the folder."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as error:
        if any(words in str(error) for words in FULL):
            raise DiskFull(f"{folder}: {error}; make room there") from error
        raise JournalError(f"{folder} cannot be used: {error}") from error
