"""Rows that the kernels read: in place where they can, else decoded block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from llmagentos.scaled import ScaledRow

BLOCK = 2**16
"""Values of a coded row that are decoded at a time; the kernels add up norms in such pieces."""


@dataclass(frozen=True)
class CodedRow:
    """A ``(d,)`` float32 row that is decoded where it is read: ``row[a:b]`` takes b - a floats.

    As an array it is the whole row, so whatever takes arrays takes it too.
    """

    between: Callable[[int, int], NDArray[np.float32]]
    """The values from one column up to another."""
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, columns: slice) -> NDArray[np.float32]:
        start, stop, step = columns.indices(self.size)
        return self.between(start, max(start, stop))[::step]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype, copy=copy)


Row = NDArray[Any] | ScaledRow | CodedRow


def in_place(rows: Sequence[Row]) -> Iterator[tuple[slice, list[Any]]]:
    """Ranges of columns, in order, with what the kernels read of one row or more there.

    Arrays and scaled rows come as they are, in one range. Where a row is coded otherwise, a range
    has ``BLOCK`` columns: extra memory is 256 KiB a row, however long it is.
    """
    size = len(rows[0])
    if not any(isinstance(row, CodedRow) for row in rows):
        yield slice(0, size), list(rows)
        return
    for start in range(0, size, BLOCK):
        columns = slice(start, min(start + BLOCK, size))
        yield columns, [_part(row, columns) for row in rows]


def _part(row: Row, columns: slice) -> Any:
    """The row's values there; of a scaled row its bytes."""
    return row.part(columns) if isinstance(row, ScaledRow) else row[columns]
