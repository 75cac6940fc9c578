"""Cells of a grid of runs, what is known of each, and which one a process does next.

A finished cell is one line of JSON, on the disk before the next one begins. Any number of processes
may work on the same file: the one at work holds a lock on its cell, which ends with it.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

Found = Mapping[str, Any]
"""What a run has shown: losses by silo, product errors and bytes by round, seconds."""


@dataclass(frozen=True)
class Cell:
    """One run: a method on a corpus."""

    corpus: str
    agents: int
    method: str
    lr: float
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.corpus}, {self.agents} agents, {self.method}, lr {self.lr:g}, seed {self.seed}"
        )


Cells = dict[Cell, Found]
KEY = tuple(Cell.__dataclass_fields__)


class Ledger:
    """The finished cells in a file, and who is at work on the others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)

    def cells(self) -> Cells:
        """What is known of every finished cell, in the order in which they ended."""
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        return dict(map(_read, lines))

    def add(self, cell: Cell, found: Found) -> None:
        """The cell is finished, also after a power cut."""
        line = json.dumps({**asdict(cell), **found}) + "\n"
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.write(file, line.encode())
        os.fsync(file)
        os.close(file)

    def claim(self, wanted: Iterable[Cell]) -> Cell | None:
        """The first cell that is neither finished nor at work on; it is this process's now."""
        for cell in wanted:
            if self._lock(cell):
                if cell not in self.cells():
                    return cell
                self.release(cell)
        return None

    def release(self, cell: Cell) -> None:
        """The cell is at work on no longer."""
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _place(cell))

    def _lock(self, cell: Cell) -> bool:
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(cell))
        except (BlockingIOError, PermissionError):  # whoever has it, has the cell
            return False
        return True


def _place(cell: Cell) -> int:
    """The byte of the lock file that stands for the cell."""
    return crc32(str(cell).encode())


def _read(line: str) -> tuple[Cell, Found]:
    found = json.loads(line)
    return Cell(**{name: found.pop(name) for name in KEY}), found
