"""The strategy and the plan of a run, from a name or from settings."""

from dataclasses import replace
from difflib import get_close_matches
from math import inf
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos.adapter import Adapter
from llmagentos.errors import SettingError
from llmagentos.federation import Plan
from llmagentos.settings import OF_AGENTS, SERVER_SIDE, ServerSettings
from llmagentos.settings.checks import require
from llmagentos.settings.together import OF_WAITING
from llmagentos.state import ServerState
from llmagentos.strategies import Step, Strategy, fedavg, strategy_of

KNOWN = (*SERVER_SIDE, "fedprox")
FEDPROX_MU = 0.01
"""FedProx's mu where it is not given."""


Asked = str | ServerSettings | Strategy
"""What a caller may say of the server's side."""


def server_settings(strategy: Asked) -> ServerSettings:
    """The settings that a name stands for, in which every client has to answer.

    FedProx averages as FedAvg does; beside a strategy of the caller's own all else is as usual.
    Raises ``SettingError`` for a name that is not known, for weights by tokens, which only a
    language model's corpus has, and for settings of agents that may be late, which clients in one
    process never are.
    """
    if isinstance(strategy, Strategy):
        return ServerSettings(quorum=1.0)
    settings = strategy
    if not isinstance(settings, ServerSettings):
        name: Any = "fedavg" if settings == "fedprox" else settings
        settings = ServerSettings(strategy=name, quorum=1.0)
    remedy = "for language models only: python -m llmagentos.recipes.fedavg_lora --server.strategy"
    require(settings.strategy not in OF_AGENTS, "strategy", settings.strategy, remedy)
    if settings.strategy not in SERVER_SIDE:
        near = get_close_matches(str(settings.strategy), KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(KNOWN)}"
        raise SettingError(f"strategy={settings.strategy!r} is not known; {hint}")
    remedy = "rows have no tokens here; set examples or uniform, or give add_client weight="
    require(settings.counting != "tokens", "server.weighting", settings.weighting, remedy)
    for name in OF_WAITING:
        value, usual = getattr(settings, name), getattr(ServerSettings(), name)
        require(value == usual, f"server.{name}", value, "nobody is late in one process; drop it")
    return settings


def strategy_for(asked: Asked, settings: ServerSettings) -> Strategy:
    """The caller's own strategy, or the one that the settings describe.

    Raises ``SettingError`` for one whose ``told`` asks more of agents than clients do.
    """
    if not isinstance(asked, Strategy):
        return strategy_of(settings)
    require(not asked.told, "strategy.told", asked.told, "clients do not act on it; leave it out")
    return asked


def proximal_mu(strategy: Asked, mu: float | None) -> float:
    """The pull that was asked for: by default none, and ``FEDPROX_MU`` for ``fedprox``."""
    if mu is None:
        return FEDPROX_MU if strategy == "fedprox" else 0.0
    number = isinstance(mu, Real)
    require(number and 0 <= mu < inf, "mu", mu, "needs to be a number, 0 or more")
    return float(mu)


def with_mean_buffers(strategy: Strategy, in_buffers: NDArray[np.bool_]) -> Strategy:
    """The strategy, but buffers become the clients' weighted mean whatever the server's step is.

    They are statistics such as variances, which an adaptive step could make negative. Their mean is
    that of the updates as ``combine`` left them: norm_clipping counts buffers in the norm that it
    bounds, and shortens their change with the rest.
    ``in_buffers`` is ``(d,)``.
    """
    if not in_buffers.any():
        return strategy
    mean = fedavg()

    def advance(state: ServerState, step: Step) -> ServerState:
        stepped = strategy.advance(state, step)
        averaged = mean.advance(state, step).adapter.vector
        vector = np.where(in_buffers, averaged, stepped.adapter.vector)
        return replace(stepped, adapter=Adapter(stepped.adapter.layout, vector))

    return replace(strategy, advance=advance)


def plan_of(run: str, rounds: int, seed: int, server: ServerSettings, mu: float) -> Plan:
    """The rounds up to this one, with what clients are told in them."""
    told = {"mu": mu, "weighting": server.counting, "may_fail": server.quorum < 1}
    return Plan(
        run=run,
        rounds=rounds,
        seed=seed,
        quorum=server.quorum,
        weighting=server.counting,
        settings={"fit": told},
    )
