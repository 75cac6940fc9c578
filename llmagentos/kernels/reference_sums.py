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


def scaled_norm(q: NDArray[np.int8], scale: NDArray[np.float32]) -> float:
    """The same of a scaled row: squares of one lane and one scale are added, then scaled."""
    squares = in_lanes(np.square(q.astype(np.float64)))
    sums = squares.reshape(BLOCK // GROUP, GROUP // LANES, LANES, -1).sum(axis=1)
    steps = np.zeros((sums.shape[2], BLOCK // GROUP))
    steps.reshape(-1)[: scale.size] = np.square(scale.astype(np.float64))
    return lanes_sum(sums * steps.T[:, None, :])


@np.errstate(all="ignore")
def inspect(row: Row, _threads: int = 1) -> tuple[float, int]:
    """The squared norm of a row in float64 and the number of its values that are not finite."""
    values = dense(row)
    norm = 0.0
    for start in range(0, values.size, CHUNK):
        here = slice(start, start + CHUNK)
        scales = slice(start // GROUP, (start + CHUNK) // GROUP)
        norm += (
            scaled_norm(row[0][here], row[1][scales])
            if isinstance(row, tuple)
            else dense_norm(values[here])
        )
    nonfinite = int(np.count_nonzero(~np.isfinite(values.astype(np.float32))))
    return (norm + math.inf if nonfinite else norm), nonfinite


def inspect_all(rows: Sequence[Row]) -> Stats:
    """The squared norms of the rows, and how many values of each are not finite."""
    stats = [inspect(row) for row in rows]
    return [norm for norm, _ in stats], [nonfinite for _, nonfinite in stats]
