"""Federated averaging: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmagentos.layout import Vector
from llmagentos.messages import Roster
from llmagentos.state import ServerState
from llmagentos.strategies.step import Step, Strategy

Sample = Callable[[Roster, np.random.Generator], list[str]]


def fedavg(lr: float = 1.0) -> Strategy:
    """The global adapter moves by ``lr`` times the weighted mean of the agents' changes."""

    def advance(state: ServerState, step: Step) -> ServerState:
        return state.advanced(step.moved(state.adapter.vector, lr))

    return Strategy(draw(), send_adapter, as_weighted, advance)


def send_adapter(state: ServerState, agent: str) -> dict[str, Vector]:  # noqa: ARG001
    """Every agent gets the global adapter."""
    return {"adapter": state.adapter.vector}


def as_weighted(state: ServerState, updates: Step) -> Step:  # noqa: ARG001
    """The updates themselves, weighted as they came."""
    return updates


def draw(fraction: float = 1.0, *, weighted: bool = False) -> Sample:
    """A share of the agents, at least one, without repeats, alike or in proportion to examples."""

    def sample(roster: Roster, rng: np.random.Generator) -> list[str]:
        agents = sorted(roster)
        count = max(1, round(fraction * len(agents)))
        if count == len(agents):
            return agents
        if not weighted:
            return sorted(rng.choice(agents, count, replace=False).tolist())
        sizes = np.array([roster[agent].examples for agent in agents], np.float64)
        return sorted(agents[place] for place in in_proportion(sizes, count, rng))

    return sample


def in_proportion(sizes: NDArray[np.float64], count: int, rng: np.random.Generator) -> set[int]:
    """``count`` different places, each as likely as its size is of the whole ``(n,)``, times count.

    So the plain mean over who is drawn is on average the mean weighted by size, which drawing one
    after another without repeats would not give. Places whose chance would be above 1 are always
    drawn. Systematic sampling in random order: Madow 1949, Annals of Mathematical
    Statistics 20, 333.
    """
    chances, sure = np.array(sizes), np.zeros(len(sizes), bool)
    while True:
        left = count - sure.sum()
        chances[~sure] = sizes[~sure] / sizes[~sure].sum() * left
        if (chances[~sure] < 1).all():
            break
        sure |= chances >= 1
    order = rng.permutation(np.flatnonzero(~sure))
    ticks = rng.random() + np.arange(left)
    drawn = np.searchsorted(np.cumsum(chances[order]), ticks, side="right")
    return {*np.flatnonzero(sure), *order[np.minimum(drawn, len(order) - 1)]}
