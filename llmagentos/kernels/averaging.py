"""Weighted sums of the agents' deltas, in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels import arrays, device
from llmagentos.kernels.arrays import ArrayOrTensor, RowLike
from llmagentos.kernels.launch import takes
from llmagentos.kernels.twin import twin

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class RowStats:
    """What one pass over a row shows beside its sum."""

    squared_norm: float
    """Sum of squares in a fixed order; NaN or Inf where the row has such a value.

    In float64. Of 16 bits up to 16 squares are first added in float32: that errs by less than 2^-20
    of the sum and by 2^-149 a value, and may give Inf where values are beyond 2^62.
    """
    nonfinite: int
    """Number of values that are NaN or Inf."""


@dataclass(frozen=True)
class Pass:
    """One pass over ``(n, d)`` rows."""

    vector: Vector
    """The result, ``(d,)`` float32; the array given as ``out``, where one was given; a tensor where
    the rows are tensors on a CUDA device."""
    squared_norms: tuple[float, ...]
    """One per row, as in ``RowStats``."""
    nonfinite: tuple[int, ...]
    """One per row, as in ``RowStats``."""


def weighted_sum(
    rows: Sequence[RowLike],
    weights: Sequence[float],
    *,
    out: ArrayOrTensor | None = None,
    threads: int | None = None,
) -> Pass:
    """``sum_k weights[k] * rows[k]``, added in float64 in the order given, rounded once.

    Up to 16 rows of one narrow type, 16 bits or scaled bytes, that follow each other are first
    added in float32: that errs by less than 19 * 2^-24 of the sum of their terms' magnitudes.

    n rows ``(d,)`` of float32, float16 or bfloat16, or scaled bytes -> ``(d,)`` float32. Rows may
    be memory-mapped, read-only and unaligned; NaN and Inf propagate and are counted. The bits do
    not depend on ``threads``. Raises ``ValueError`` for a wrong type or length, or ``out`` over a
    row.
    """
    if not len(rows):
        raise ValueError("rows is empty; did every agent fail?")
    if takes(rows[0]):
        found, stats = device.weighted_sum(rows, weights, out)
        return Pass(found, *stats)
    checked = arrays.rows_in_place(rows)
    factors = arrays.weights_of(weights, len(checked))
    vector = arrays.output("out", out, len(checked[0]), arrays.named(checked))
    count = arrays.threads_for(sum(row.nbytes for row in checked), threads)
    norms, nonfinite = twin.weighted_sum(vector, arrays.passed(checked), factors, count)
    return Pass(vector, tuple(norms), tuple(nonfinite))


def average_step(  # noqa: PLR0913 (keyword-only)
    anchor: ArrayOrTensor,
    rows: Sequence[RowLike],
    weights: Sequence[float],
    lr: float = 1.0,
    *,
    out: ArrayOrTensor | None = None,
    threads: int | None = None,
) -> Pass:
    """``anchor + lr * sum_k weights[k] * rows[k]`` in one pass, rounded once.

    ``anchor`` is ``(d,)`` float32 and stays as it is; the rest is as in ``weighted_sum``. No rows
    at all leave the anchor's values.
    """
    if takes(anchor):
        found, stats = device.average_step(anchor, rows, weights, lr, out)
        return Pass(found, *stats)
    start = arrays.vector("anchor", anchor)
    checked = arrays.rows_in_place(rows, start.size)
    factors = arrays.weights_of(weights, len(checked))
    vector = arrays.output("out", out, start.size, {"anchor": start} | arrays.named(checked))
    count = arrays.threads_for(sum(row.nbytes for row in [start, *checked]), threads)
    norms, nonfinite = twin.average_step(vector, start, lr, arrays.passed(checked), factors, count)
    return Pass(vector, tuple(norms), tuple(nonfinite))


def inspect(row: RowLike, *, threads: int | None = None) -> RowStats:
    """The squared norm of one row and the number of its values that are not finite."""
    if takes(row):
        return RowStats(*device.inspect(row))
    values = arrays.row_in_place("row", row)
    (passed,) = arrays.passed([values])
    return RowStats(*twin.inspect(passed, arrays.threads_for(values.nbytes, threads)))
