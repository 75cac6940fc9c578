"""Agents that took different numbers of steps: Wang et al. 2020, arXiv:2007.07481."""

from dataclasses import replace
from math import fsum

from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import Step, Strategy


def fednova(lr: float = 1.0) -> Strategy:
    """Every agent pulls in proportion to its weight, not to how many steps it took.

    ``x += lr tau sum_i p_i delta_i / a_i`` with ``tau = sum_i p_i a_i``, where a_i is the agent's
    ``step_weight``; equal a_i are FedAvg, to the rounding of the weights. Section 5.
    """
    return replace(fedavg(lr), combine=normalised, told={"normalised": True})


def normalised(state: ServerState, updates: Step) -> Step:  # noqa: ARG001
    """The updates with the weights tau p_i / a_i."""
    p, a = updates.weights, [told["step_weight"] for told in updates.metrics]
    weights = [
        p_i * fsum(p_j * (a_j / a_i) for p_j, a_j in zip(p, a, strict=True))
        for p_i, a_i in zip(p, a, strict=True)
    ]
    return replace(updates, weights=weights)
