"""FedDyn, the server's half: Acar et al. 2021, arXiv:2111.04263, Algorithm 1.

Every agent minimises ``f_i(y) - <g_i, y> + alpha/2 |y - x|^2``, where g_i is about the gradient of
its own f_i there: so all agents agree where the mean is at its minimum. The agent's half is in
``engines/corrections.py``.
"""

from dataclasses import replace

from llmagentos.layout import Vector
from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import Step, Strategy


def feddyn(alpha: float = 0.1) -> Strategy:
    """``h -= alpha (S/N) mean(delta_i)``, then ``x += mean(delta_i) - h / alpha``, S of N agents.

    The means are plain: weights are uniform.
    """

    def advance(state: ServerState, step: Step) -> ServerState:
        change = step.mean()
        h: Vector = state.moment("dual") - alpha * step.share * change
        x: Vector = state.adapter.vector + change - h / alpha
        return state.advanced(x, dual=h)

    return replace(fedavg(), advance=advance, told={"correction": "feddyn", "mu": alpha})
