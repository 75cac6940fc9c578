"""How far the agents' deltas of a round agree, as the records of a run have it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Cosines between the deltas of a round's agents.

    ``means`` are each agent's over the others, ``(n,)``; ``matrix`` has every pair, ``(n, n)``, or
    is None where they were too many. NaN on its diagonal, which is always 1, and where there is no
    cosine.
    """

    round: int
    names: Sequence[str]
    means: Matrix
    lowest: float
    highest: float
    matrix: Matrix | None

    @property
    def known(self) -> bool:
        """Whether there is a cosine at all."""
        return bool(np.isfinite(self.means).any())

    @property
    def mean(self) -> float:
        """Over all pairs."""
        return float(np.nanmean(self.means if self.matrix is None else self.matrix))

    def among(self, names: Sequence[str]) -> Matrix:
        """The pairs of the round among other agents; NaN for those that took no part."""
        there = [names.index(name) for name in self.names]
        matrix = np.full((len(names), len(names)), np.nan)
        matrix[np.ix_(there, there)] = self.matrix
        return matrix


def agreement_of(record: Mapping[str, Any]) -> Agreement:
    """What a round's record says."""
    kept = record.get("cosines") or {"names": [], "matrix": []}
    number, names = record["round"], kept["names"]
    if "means" in kept:
        means = np.array(kept["means"], np.float64)
        return Agreement(number, names, means, kept["lowest"], kept["highest"], None)
    matrix = np.array(kept["matrix"], np.float64).reshape(len(names), len(names))
    np.fill_diagonal(matrix, np.nan)
    pairs = matrix[np.isfinite(matrix)]
    span = (float(pairs.min()), float(pairs.max())) if len(pairs) else (np.nan, np.nan)
    return Agreement(number, names, _row_means(matrix), *span, matrix)


def members(rounds: Iterable[Agreement], roster: Iterable[str]) -> list[str]:
    """Who took part in any of the rounds, in the order of the roster."""
    there = {name for found in rounds for name in found.names}
    return [name for name in roster if name in there]


def _row_means(matrix: Matrix) -> Matrix:
    """The mean of what there is in every row; NaN where there is nothing."""
    there = np.isfinite(matrix).sum(axis=1)
    means = np.full(len(matrix), np.nan)
    np.divide(np.nansum(matrix, axis=1), there, out=means, where=there > 0)
    return means
