"""What the plain twins share: how a row reads, and the one order in which squares are added."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos.scaled import GROUP, ScaledRow

Dense = NDArray[Any]
Row = Dense | tuple[NDArray[np.int8], NDArray[np.float32]]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Stats = tuple[list[float], list[int]]

LANES = 8
"""Value j of a block goes to lane j mod 8."""
BLOCK = 1024
"""Values that are added up lane by lane."""
CHUNK = 64 * BLOCK
"""Values whose blocks are added up before they enter the norm of the row."""


def narrow(values: Float64s) -> Float32s:
    """The nearest float32; every NaN becomes one."""
    rounded = values.astype(np.float32)
    rounded[np.isnan(rounded)] = np.float32(np.nan)
    return rounded


def dense(row: Row) -> Dense:
    """The values of a row."""
    return ScaledRow(*row)[:] if isinstance(row, tuple) else row


def in_scales(row: Row) -> tuple[Dense, Float32s]:
    """The values of a narrow row and their scales, which are one where it has 16 bits."""
    if isinstance(row, tuple):
        return row
    return row, np.ones(-(-row.size // GROUP), np.float32)


def sum_in_order(values: Float64s) -> Float64s:
    """Sums along the first axis, from first to last."""
    last: Float64s = np.add.accumulate(values, axis=0)[-1]
    return last


def in_lanes(chunk: Float64s) -> Float64s:
    """At most ``CHUNK`` values as ``(place in the lane, lane, block)``, with zeros at the end."""
    terms = np.zeros((-(-chunk.size // BLOCK), BLOCK // LANES, LANES))
    terms.reshape(-1)[: chunk.size] = chunk
    return terms.transpose(1, 2, 0)


def chunk_sum(chunk: Float64s) -> float:
    """Sum of at most ``CHUNK`` terms: lanes, halves, blocks in order."""
    return lanes_sum(in_lanes(chunk))


def lanes_sum(terms: Float64s) -> float:
    """Sum of terms in lanes: lanes, halves, blocks in order."""
    lanes = sum_in_order(terms)
    for width in (4, 2, 1):
        lanes = lanes[:width] + lanes[width : 2 * width]
    return float(sum_in_order(lanes[0]))


def dense_norm(values: Dense) -> float:
    """Sum of squares of at most ``CHUNK`` values."""
    return chunk_sum(np.square(values.astype(np.float64)))


def narrow_norm(q: Dense, scale: Float32s) -> float:
    """The same of a narrow row: squares are added in float32 scale by scale, then scaled.

    Value j of a scale goes to float j mod 16, and each of the first eight is added to that of the
    last eight.
    """
    squares = in_lanes(np.square(q.astype(np.float64)))
    places = squares.reshape(BLOCK // GROUP, GROUP // (2 * LANES), 2 * LANES, -1)
    sums = np.zeros_like(places[:, 0], np.float32)
    for place in places.swapaxes(0, 1):
        sums = (sums + place).astype(np.float32)
    steps = np.zeros((sums.shape[2], BLOCK // GROUP))
    steps.reshape(-1)[: scale.size] = np.square(scale.astype(np.float64))
    return lanes_sum((sums[:, :LANES] + sums[:, LANES:]) * steps.T[:, None, :])


def row_norm(row: Row, chunk: slice) -> float:
    """Sum of squares of the values of a chunk of a row."""
    if not isinstance(row, tuple) and row.dtype == np.float32:
        return dense_norm(row[chunk])
    q, scale = in_scales(row)
    return narrow_norm(q[chunk], scale[chunk.start // GROUP : chunk.stop // GROUP])


@np.errstate(all="ignore")
def inspect(row: Row, _threads: int = 1) -> tuple[float, int]:
    """The squared norm of a row in float64 and the number of its values that are not finite."""
    values = dense(row)
    norm = 0.0
    for start in range(0, values.size, CHUNK):
        norm += row_norm(row, slice(start, start + CHUNK))
    nonfinite = int(np.count_nonzero(~np.isfinite(values.astype(np.float32))))
    return (norm + math.inf if nonfinite else norm), nonfinite


def inspect_all(rows: Sequence[Row]) -> Stats:
    """The squared norms of the rows, and how many values of each are not finite."""
    stats = [inspect(row) for row in rows]
    return [norm for norm, _ in stats], [nonfinite for _, nonfinite in stats]
