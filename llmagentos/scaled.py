"""Rows of bytes that stand for floats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

GROUP = 128
"""Values that share a scale."""


@dataclass(frozen=True)
class ScaledRow:
    """A ``(d,)`` float32 row kept as bytes: value j is ``q[j] * scale[j // 128]``, rounded.

    ``row[a:b]`` is decoded as it is asked for, and as an array it is the whole row, so whatever
    takes arrays takes it too. The averaging kernels read it in place.
    """

    q: NDArray[np.int8]
    """``(d,)``"""
    scale: NDArray[np.float32]
    """One for every 128 values, the last for what is left."""

    def __post_init__(self) -> None:
        assert self.q.dtype == np.int8
        assert self.scale.dtype == np.float32
        assert self.scale.shape == (groups(len(self.q)),)

    @property
    def nbytes(self) -> int:
        """Bytes that are read."""
        return self.q.nbytes + self.scale.nbytes

    def __len__(self) -> int:
        return len(self.q)

    def __getitem__(self, columns: slice) -> NDArray[np.float32]:
        start, stop, step = columns.indices(len(self))
        stop = max(start, stop)
        with np.errstate(all="ignore"):
            values: NDArray[np.float32] = self.q[start:stop] * spread(self.scale, start, stop)
            return values[::step]

    def part(self, columns: slice) -> "ScaledRow":
        """A range of columns that starts with a scale, as bytes."""
        start, stop, _ = columns.indices(len(self))
        assert start % GROUP == 0
        return ScaledRow(self.q[start:stop], self.scale[start // GROUP : groups(stop)])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype, copy=copy)


def groups(size: int) -> int:
    """How many scales ``size`` values have."""
    return -(-size // GROUP)


def spread(scale: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """The scale of every value from ``start`` to ``stop``."""
    first = start // GROUP
    return np.repeat(scale[first : groups(stop)], GROUP)[start - first * GROUP :][: stop - start]
