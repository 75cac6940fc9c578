"""SCAFFOLD, the server's half: Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, option II.

Every agent descends along ``gradient - c_i + c``: c_i is about what its own data wants where the
adapter is, c about what everyone's does, so local steps go where the mean would go. The agent's
half is in ``engines/corrections.py``.
"""

from dataclasses import replace

from llmagentos.layout import Vector
from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import Step, Strategy

TOLD = {"correction": "scaffold", "beside": ["control"]}


def scaffold(lr: float = 1.0) -> Strategy:
    """``x += lr mean(delta_i)`` and ``c += (S/N) mean(change of c_i)`` over S of N agents.

    So N c stays the sum of all c_i. Both means are plain: weights are uniform.
    """

    def advance(state: ServerState, step: Step) -> ServerState:
        x = step.moved(state.adapter.vector, lr)
        c = step.beside["control"].moved(state.moment("control"), step.share)
        return state.advanced(x, control=c)

    return replace(fedavg(), dispatch=send_control, advance=advance, told=TOLD)


def send_control(state: ServerState, agent: str) -> dict[str, Vector]:  # noqa: ARG001
    """Every agent gets the adapter and c, ``(d,)`` each."""
    return {"adapter": state.adapter.vector, "control": state.moment("control")}
