"""Server optimizers over the averaged change; each is FedAvg with another ``advance``.

FedAdam, FedYogi and FedAdagrad as in Reddi et al. 2021, arXiv:2003.00295, Algorithm 2: the second
moment starts at tau squared and nothing is bias-corrected. FedAvgM is Hsu et al. 2019,
arXiv:1909.06335. In the formulas x is the adapter and d the weighted mean of the agents' changes.
Each keeps its moments under names of its own: another's are no moments of it.
"""

from dataclasses import replace
from functools import partial

from llmagentos import kernels
from llmagentos.kernels import Adaptive, Momentum
from llmagentos.state import ServerState
from llmagentos.strategies.fedavg import fedavg
from llmagentos.strategies.step import AverageAndStep, Step, Strategy


def fedavgm(lr: float = 1.0, beta: float = 0.9) -> Strategy:
    """The step has a memory: m = beta m + d; x += lr m."""

    def advance(state: ServerState, step: Step) -> ServerState:
        before = Momentum(state.moment("fedavgm.m"), state.adapter.vector)
        m, x = step.taken(before, partial(kernels.average_momentum_step, lr=lr, beta=beta))
        return state.advanced(x, **{"fedavgm.m": m})

    return replace(fedavg(), advance=advance)


def fedadam(
    lr: float = 0.03, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Strategy:
    """Both moments of d decay: m = beta1 m + (1-beta1) d; v = beta2 v + (1-beta2) d^2.

    x += lr m / (sqrt(v) + tau).
    """
    rule = partial(kernels.average_adaptive_step, "adam", lr=lr, beta1=beta1, beta2=beta2, tau=tau)
    return _adaptive("fedadam", rule, tau)


def fedyogi(
    lr: float = 0.03, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Strategy:
    """As ``fedadam`` with v = v - (1-beta2) d^2 sign(v - d^2)."""
    rule = partial(kernels.average_adaptive_step, "yogi", lr=lr, beta1=beta1, beta2=beta2, tau=tau)
    return _adaptive("fedyogi", rule, tau)


def fedadagrad(lr: float = 0.03, tau: float = 1e-3) -> Strategy:
    """As ``fedadam`` with v = v + d^2 and beta1 = 0."""
    rule = partial(kernels.average_adaptive_step, "adagrad", lr=lr, tau=tau)
    return _adaptive("fedadagrad", rule, tau)


def _adaptive(name: str, rule: AverageAndStep[Adaptive], tau: float) -> Strategy:
    first, second = f"{name}.m", f"{name}.v"

    def advance(state: ServerState, step: Step) -> ServerState:
        m, v = state.moment(first), state.moment(second, tau**2)
        m, v, x = step.taken(Adaptive(m, v, state.adapter.vector), rule)
        return state.advanced(x, **{first: m, second: v})

    return replace(fedavg(), advance=advance)
