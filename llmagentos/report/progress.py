"""How far a run is, read from its journal without disturbing who holds it."""

import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmagentos.errors import JournalError


@dataclass(frozen=True)
class Asked:
    """One agent in the open round: since when it is asked, in seconds of the epoch, and its answer.

    ``refused`` is the reason where its answer was refused.
    """

    kind: str
    agent: str
    since: float
    answered: bool
    refused: str | None

    @property
    def waiting(self) -> bool:
        """Whether the server waits for it."""
        return not self.answered and self.refused is None


@dataclass(frozen=True)
class Progress:
    """The closed rounds' reports, and who was asked for what in the round that is open."""

    run: str
    live: bool
    reports: Sequence[Mapping[str, Any]]
    open_round: int
    asked: Sequence[Asked]


def read_progress(folder: Path) -> Progress:
    """What the journal in a folder says; it may be in use.

    Raises ``JournalError`` where there is none or it cannot be read.
    """
    path = folder / "journal.sqlite"
    if not path.is_file():
        raise JournalError(f"{folder} holds no journal; the run has not begun")
    try:
        with closing(sqlite3.connect(_readable(path), uri=True)) as rows:
            return _progress(rows, live=held(folder))
    except (sqlite3.Error, TypeError, OSError) as error:
        raise JournalError(f"{path} cannot be read: {error}") from error


def _readable(path: Path) -> str:
    """The address to read a journal at.

    SQLite wants to write beside a journal in WAL mode, even to read it. Where it may not, and
    nothing waits in a log beside it, the file alone is the whole journal.
    """
    writable = os.access(path.parent, os.W_OK, effective_ids=True)
    alone = not writable and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro" + "&immutable=1" * alone


def _progress(rows: sqlite3.Connection, *, live: bool) -> Progress:
    begun = rows.execute("SELECT value FROM facts WHERE name='run'").fetchone()
    if begun is None:
        raise JournalError("the run has not begun")
    (open_round,) = rows.execute("SELECT max(round) FROM rounds").fetchone()
    reports = rows.execute("SELECT report FROM rounds WHERE report IS NOT NULL ORDER BY round")
    # The measurements before and after a run carry the number of rounds that were closed.
    asked = rows.execute(
        "SELECT kind, agent, since, body IS NOT NULL, refused FROM asked"
        " LEFT JOIN answers USING (round, kind, agent)"
        " WHERE round=?-(kind='measure') ORDER BY agent, since",
        (open_round,),
    )
    return Progress(
        run=begun[0],
        live=live,
        reports=[json.loads(report) for (report,) in reports],
        open_round=open_round,
        asked=[Asked(k, a, s, bool(answered), refused) for k, a, s, answered, refused in asked],
    )


def held(folder: Path) -> bool:
    """Whether a process holds the journal; asked without writing, so of another user's, too."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
