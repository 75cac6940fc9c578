"""What the plain twins share: how a row reads, and the one order in which squares are added."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos.scaled import ScaledRow

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


def chunk_sum(chunk: Float64s) -> float:
    """Sum of at most ``CHUNK`` terms: lanes, halves, blocks in order."""
    terms = np.zeros((-(-chunk.size // BLOCK), BLOCK // LANES, LANES))
    terms.reshape(-1)[: chunk.size] = chunk
    lanes = sum_in_order(terms.transpose(1, 2, 0))
    for width in (4, 2, 1):
        lanes = lanes[:width] + lanes[width : 2 * width]
    return float(sum_in_order(lanes[0]))


@np.errstate(all="ignore")
def inspect(row: Row, _threads: int = 1) -> tuple[float, int]:
    """The squared norm of a row in float64 and the number of its values that are not finite."""
    values = dense(row)
    norm = 0.0
    nonfinite = 0
    for start in range(0, values.size, CHUNK):
        chunk = values[start : start + CHUNK]
        norm += chunk_sum(np.square(chunk.astype(np.float64)))
        nonfinite += int(np.count_nonzero(~np.isfinite(chunk.astype(np.float32))))
    return norm, nonfinite


def inspect_all(rows: Sequence[Row]) -> Stats:
    """The squared norms of the rows, and how many values of each are not finite."""
    stats = [inspect(row) for row in rows]
    return [norm for norm, _ in stats], [nonfinite for _, nonfinite in stats]
