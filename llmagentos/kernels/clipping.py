"""Rows that are shortened to a limit."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels.arrays import ArrayOrTensor, RowLike
from llmagentos.kernels.averaging import inspect, weighted_sum


@dataclass(frozen=True)
class Clipped:
    """A row after clipping, and its norm before."""

    vector: NDArray[np.float32]
    """``(d,)`` float32; the array given as ``out``, where one was given."""
    norm: float
    """Euclidean norm of the row as it was; NaN or Inf where the row has such a value."""


def clipped(
    row: RowLike,
    limit: float,
    *,
    out: ArrayOrTensor | None = None,
    threads: int | None = None,
) -> Clipped:
    """``row * min(1, limit / norm)``: the row itself where it is short enough.

    A row as in ``weighted_sum`` -> ``(d,)`` float32, its norm at most ``limit`` to a relative 1e-7,
    or 2e-7 for scaled bytes. Two passes: the norm, and the scaled copy. Raises ``ValueError``
    unless ``limit`` is above 0 and finite.
    """
    if not 0 < limit < math.inf:
        raise ValueError(f"limit={limit}; needs to be above 0 and finite")
    norm = math.sqrt(inspect(row, threads=threads).squared_norm)
    factor = clip_factor(norm, limit)
    return Clipped(weighted_sum([row], [factor], out=out, threads=threads).vector, norm)


def clip_factor(norm: float, limit: float) -> float:
    """``min(1, limit / norm)``: what brings a vector of that norm to the limit; 0 for Inf."""
    return limit / norm if norm > limit else 1.0
