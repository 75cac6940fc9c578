"""What the kernels that look at every row on its own mean, in plain NumPy; see ``reference``.

The native twin gives the same bits, except that it may give NaN another sign in a matrix.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels.reference_sums import (
    CHUNK,
    Float32s,
    Float64s,
    Row,
    Stats,
    chunk_sum,
    dense,
    inspect_all,
    narrow,
    sum_in_order,
)

Ring = NDArray[np.uint32]


def sortable(row: Row) -> Float32s:
    """The values as they are sorted: NaN counts as Inf and -0 as 0."""
    wide = dense(row).astype(np.float32)
    return np.where(np.isnan(wide), np.float32(np.inf), wide) + np.float32(0)


@np.errstate(all="ignore")
def trimmed_mean(out: Float32s, rows: Sequence[Row], trim: int, _threads: int = 1) -> Stats:
    """``out[j]``: the middle ``n - 2 trim`` of ``rows[0][j], ..., rows[n-1][j]``, their mean.

    They are added from the smallest up and multiplied by 1 over their number.
    """
    ordered = np.sort([sortable(row) for row in rows], axis=0)[trim : len(rows) - trim]
    sums = sum_in_order(ordered.astype(np.float64))
    out[:] = narrow(sums * (1.0 / len(ordered)))
    return inspect_all(rows)


Term = Callable[[Float64s, Float64s], Float64s]


@np.errstate(all="ignore")
def _sum_pairs(matrix: Float64s, rows: Sequence[Row], term: Term) -> None:
    """``matrix``, ``(n n,)``: the terms of rows i and k, in the order of the squared norms."""
    sums = matrix.reshape(len(rows), len(rows))
    sums[:] = 0.0
    wide = [dense(row).astype(np.float64) for row in rows]
    for i, left in enumerate(wide):
        for k, right in enumerate(wide[: i + 1]):
            for start in range(0, left.size, CHUNK):
                here = slice(start, start + CHUNK)
                sums[i, k] += chunk_sum(term(left[here], right[here]))
            sums[k, i] = sums[i, k]


def squared_distances(matrix: Float64s, rows: Sequence[Row], _threads: int = 1) -> None:
    """``matrix[i n + k] = sum_j (rows[i][j] - rows[k][j])^2``, float64; 0 where ``i = k``."""
    _sum_pairs(matrix, rows, lambda left, right: np.square(left - right))
    matrix[:: len(rows) + 1] = 0.0


def inner_products(matrix: Float64s, rows: Sequence[Row], _threads: int = 1) -> None:
    """``matrix[i n + k] = sum_j rows[i][j] rows[k][j]``, float64."""
    _sum_pairs(matrix, rows, np.multiply)


def ring_sum(out: Ring, rows: Sequence[Ring], _threads: int = 1) -> None:
    """``out = sum_k rows[k]`` modulo ``2 ** 32``."""
    out[:] = 0
    for row in rows:
        out += row
