"""Rules that some arbitrary updates cannot carry away; each is FedAvg with another ``combine``.

``x_1, ..., x_n`` are the agents' changes, ``(d,)`` each, and f of them may be anything. But for
``norm_clipping``, every update counts alike: a weight is a claim, and a liar could claim much.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from llmagentos import kernels
from llmagentos.codecs import Row, in_place
from llmagentos.errors import QuorumError
from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import Step, Strategy

Rule = Callable[[Step], Step]


def median(lr: float = 1.0) -> Strategy:
    """The median of every coordinate; of an even number of updates the mean of the middle two.

    Yin et al. 2018, arXiv:1803.01498, Definition 1.
    """
    return _robust(partial(_by_coordinate, kernels.median), lr, least=1)


def trimmed_mean(trim: int, lr: float = 1.0) -> Strategy:
    """The mean of every coordinate without its ``trim`` smallest and largest values.

    Needs ``n > 2 * trim``. Yin et al. 2018, arXiv:1803.01498, Definition 2.
    """
    rule = partial(_by_coordinate, partial(kernels.trimmed_mean, trim=trim))
    return _robust(rule, lr, least=2 * trim + 1)


def krum(tolerated: int, lr: float = 1.0) -> Strategy:
    """The one update whose ``n - f - 2`` nearest others are nearest, for f tolerated ones.

    Needs ``n >= 2 f + 3``. Blanchard et al. 2017, arXiv:1703.02757, section 4.
    """
    return _robust(
        lambda updates: updates.only(_ranked(updates, tolerated)[:1]), lr, least=2 * tolerated + 3
    )


def multi_krum(tolerated: int, lr: float = 1.0) -> Strategy:
    """The mean of the ``n - f`` updates with the lowest scores of ``krum``.

    Needs ``n >= 2 f + 3``. Blanchard et al. 2017, arXiv:1703.02757, section 6.
    """
    return _robust(partial(_keep_lowest, tolerated), lr, least=2 * tolerated + 3)


def norm_clipping(limit: float, lr: float = 1.0) -> Strategy:
    """The weighted mean of updates that are shortened to the norm ``limit`` where they are longer.

    Sun et al. 2019, arXiv:1911.07963, section 4.
    """
    return _robust(partial(_clip, limit), lr, least=1)


def krum_scores(distances: NDArray[np.float64], tolerated: int) -> NDArray[np.float64]:
    """``(n, n) -> (n,)``: the sum of each update's ``n - f - 2`` smallest squared distances.

    A distance that is not a number counts as infinite.
    """
    others = np.where(np.isnan(distances), np.inf, distances)
    np.fill_diagonal(others, np.inf)
    nearest = np.sort(others, axis=1)[:, : len(others) - tolerated - 2]
    scores: NDArray[np.float64] = nearest.sum(axis=1)
    return scores


def squared_distances(rows: Sequence[Row]) -> NDArray[np.float64]:
    """``(n, n)`` float64, however the rows are coded."""
    parts = [kernels.squared_distances(values) for _, values in in_place(rows)]
    distances: NDArray[np.float64] = np.sum(parts, axis=0)
    return distances


def squared_norm(row: Row) -> float:
    """Of one row, however it is coded."""
    return float(np.sum([kernels.inspect(part).squared_norm for _, (part,) in in_place([row])]))


def _robust(rule: Rule, lr: float, least: int) -> Strategy:
    def combine(state: ServerState, updates: Step) -> Step:  # noqa: ARG001
        if len(updates.rows) < least:
            raise QuorumError(
                f"{len(updates.rows)} updates are too few for the server's rule; it needs {least}"
            )
        return rule(updates)

    return replace(fedavg(lr), combine=combine, needs="rows", least=least)


def _by_coordinate(kernel: Callable[..., kernels.Pass], updates: Step) -> Step:
    """One row that the kernel makes of all."""
    out = np.empty(len(updates.rows[0]), np.float32)
    updates.sweep(lambda columns, rows: kernel(rows, out=out[columns]))
    return Step([out], [1.0])


def _ranked(updates: Step, tolerated: int) -> list[int]:
    """The rows from the lowest Krum score up; of equal scores the first comes first."""
    scores = krum_scores(squared_distances(updates.rows), tolerated)
    ranked: list[int] = np.argsort(scores, kind="stable").tolist()
    return ranked


def _keep_lowest(tolerated: int, updates: Step) -> Step:
    """All rows but the ``tolerated`` ones with the highest scores, in their order."""
    ranked = _ranked(updates, tolerated)
    return updates.only(sorted(ranked[: len(ranked) - tolerated]))


def _clip(limit: float, updates: Step) -> Step:
    """The same rows with less weight where they are too long."""
    norms = updates.squared_norms or [squared_norm(row) for row in updates.rows]
    factors = [kernels.clip_factor(sqrt(norm), limit) for norm in norms]
    shares = [weight * factor for weight, factor in zip(updates.weights, factors, strict=True)]
    return replace(updates, weights=shares)
