"""What the server makes of updates that began at different versions of its adapter.

An update's staleness is how many versions have passed since. ``Step.metrics`` tells it, and
``Step.beside["anchor"]`` holds the adapters that the updates began at; where neither is told, as in
rounds that all play together, all began at the current one.
"""

from dataclasses import replace

import numpy as np

from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import Step, Strategy


def discount(staleness: float, exponent: float) -> float:
    """``(1 + staleness)^-exponent``: 1 for an update of the current version."""
    return float((1 + staleness) ** -exponent)


def fedbuff(lr: float = 1.0, exponent: float = 0.5) -> Strategy:
    """``x += lr sum_i p_i s(tau_i) delta_i`` over the updates of a buffer, s their discount.

    Nguyen et al. 2022, arXiv:2106.06639, Algorithm 1. A buffer of everyone's fresh updates is
    FedAvg.
    """

    def combine(state: ServerState, updates: Step) -> Step:  # noqa: ARG001
        return replace(updates, weights=discounted(updates, exponent))

    return replace(fedavg(lr), combine=combine)


def fedasync(lr: float = 0.6, exponent: float = 0.5) -> Strategy:
    """``x = (1 - a) x + a y`` with ``a = lr s(tau)``: towards the agent's adapter y itself.

    Xie et al. 2019, arXiv:1903.03934, Algorithm 1 with the polynomial discount. Of several updates
    the mean of these steps is taken.
    """

    def combine(state: ServerState, updates: Step) -> Step:
        if "anchor" not in updates.beside:
            return replace(updates, weights=discounted(updates, exponent))
        began = zip(updates.rows, updates.beside["anchor"].rows, strict=True)
        x = state.adapter.vector
        rows = [np.asarray(delta, np.float32) + np.asarray(anchor) - x for delta, anchor in began]
        return Step(rows, discounted(updates, exponent))

    return replace(fedavg(lr), combine=combine)


def discounted(updates: Step, exponent: float) -> list[float]:
    """The weights of the updates, less for those that are stale; they sum to at most 1."""
    stale = [metrics.get("staleness", 0.0) for metrics in updates.metrics]
    return [p * discount(tau, exponent) for p, tau in zip(updates.weights, stale, strict=True)]
