"""How rows add up, in plain NumPy: in float64, narrow rows a few at a time in float32."""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from llmagentos.kernels.reference_sums import Float32s, Float64s, Row, dense, in_scales
from llmagentos.scaled import spread

NARROW_ROWS = 16
"""Scaled rows, or rows of 16 bits, that are added in float32 before their sum is in float64."""

Weighted = tuple[Row, float]
"""A row and its exact weight."""


def exact_weight(weight: float) -> float:
    """The weight as it is used: rounded to 29 significant bits, and 0 below ``2 ** -800``.

    Times a float32 it is exact in float64: a fused multiply-add gives the bits of two operations.
    """
    mantissa, exponent = math.frexp(weight)
    rounded = math.ldexp(round(math.ldexp(mantissa, 29)), exponent - 29)
    return 0.0 if abs(rounded) < 2.0**-800 else rounded


@np.errstate(all="ignore")
def weighted_rows(size: int, rows: Sequence[Row], weights: Sequence[float]) -> Float64s:
    """``sum_k weights[k] * rows[k]``, ``(size,)``, added from first to last.

    Narrow rows of one type that follow each other are split into groups of at most
    ``NARROW_ROWS``, of about the same size, the larger ones first.
    """
    sums = np.zeros(size)
    pairs = zip(rows, map(exact_weight, weights), strict=True)
    for kind, stretch in groupby(pairs, lambda pair: _type_of(pair[0])):
        narrow = kind != np.float32
        for group in split(list(stretch), NARROW_ROWS if narrow else 1):
            sums += _narrow_sum(size, group) if narrow else _float32_term(*group[0])
    return sums


def _type_of(row: Row) -> np.dtype:
    return row[0].dtype if isinstance(row, tuple) else row.dtype


def split(rows: list[Weighted], limit: int) -> list[list[Weighted]]:
    """Groups of at most ``limit`` rows, as few as there can be and as even."""
    places = np.array_split(np.arange(len(rows)), -(-len(rows) // limit))
    return [[rows[k] for k in group] for group in places]


def _float32_term(row: Row, weight: float) -> Float64s:
    term: Float64s = weight * dense(row).astype(np.float64)
    return term


def _narrow_sum(size: int, group: Sequence[Weighted]) -> Float32s:
    """Each factor ``weight * scale``, product and sum is rounded to float32."""
    total = np.zeros(size, np.float32)
    for row, weight in group:
        q, scale = in_scales(row)
        factor = (weight * scale.astype(np.float64)).astype(np.float32)
        total += q.astype(np.float32) * spread(factor, 0, size)
    return total
