"""Federated averaging: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1."""

from collections.abc import Callable

import numpy as np

from llmagentos.layout import Vector
from llmagentos.messages import Roster
from llmagentos.state import ServerState
from llmagentos.strategies.step import Step, Strategy

Sample = Callable[[Roster, np.random.Generator], list[str]]


def fedavg(lr: float = 1.0, sample: Sample | None = None) -> Strategy:
    """The global adapter moves by ``lr`` times the weighted mean of the agents' changes."""

    def advance(state: ServerState, step: Step) -> ServerState:
        return state.advanced(step.moved(state.adapter.vector, lr))

    return Strategy(sample or draw(), send_adapter, as_weighted, advance)


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
        examples = np.array([roster[agent].examples for agent in agents], np.float64)
        odds = examples / examples.sum() if weighted else None
        return sorted(rng.choice(agents, count, replace=False, p=odds).tolist())

    return sample
