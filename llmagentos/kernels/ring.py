"""Sums of masked vectors: integers modulo ``2 ** 32``."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels import arrays
from llmagentos.kernels.twin import twin

Ring = NDArray[np.uint32]


def ring_sum(rows: Sequence[Ring], *, threads: int | None = None) -> Ring:
    """``sum_k rows[k]`` modulo ``2 ** 32``: n rows ``(d,)`` uint32, at any address -> ``(d,)``.

    Masks that add up to 0 cancel exactly, in any order. Raises ``ValueError`` for a wrong type or
    length.
    """
    if not rows:
        raise ValueError("rows is empty; did every agent fail?")
    for k, row in enumerate(rows):
        _check(f"rows[{k}]", row, rows[0].size)
    out = np.empty(rows[0].size, np.uint32)
    count = arrays.threads_for(sum(row.nbytes for row in rows), threads)
    twin.ring_sum(out, list(rows), count)
    return out


def _check(name: str, row: Ring, size: int) -> None:
    if row.dtype != np.uint32 or row.ndim != 1 or not row.flags.c_contiguous:
        raise ValueError(
            f"{name} is {row.dtype} of shape {row.shape}; "
            "needs to be one contiguous vector of uint32"
        )
    if row.size != size:
        raise ValueError(f"{name} has {row.size} values; needs {size}")
