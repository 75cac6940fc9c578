"""Federated algorithms on the server's side: each a few functions, composed."""

from dataclasses import replace

from llmagentos.settings import ServerSettings
from llmagentos.settings.checks import require
from llmagentos.strategies.asynchronous import fedasync, fedbuff
from llmagentos.strategies.fedavg import draw, fedavg
from llmagentos.strategies.feddyn import feddyn
from llmagentos.strategies.fednova import fednova
from llmagentos.strategies.fedopt import fedadagrad, fedadam, fedavgm, fedyogi
from llmagentos.strategies.robust import (
    krum,
    median,
    multi_krum,
    norm_clipping,
    trimmed_mean,
)
from llmagentos.strategies.scaffold import scaffold
from llmagentos.strategies.step import Dispatch, Step, Strategy

__all__ = [
    "Dispatch",
    "Step",
    "Strategy",
    "check_updates",
    "draw",
    "fedadagrad",
    "fedadam",
    "fedasync",
    "fedavg",
    "fedavgm",
    "fedbuff",
    "feddyn",
    "fednova",
    "fedyogi",
    "krum",
    "median",
    "multi_krum",
    "norm_clipping",
    "scaffold",
    "strategy_of",
    "trimmed_mean",
]


def strategy_of(settings: ServerSettings) -> Strategy:
    """The strategy that the settings describe."""
    lr, tau = settings.server_lr, settings.tau
    betas = settings.beta1, settings.beta2
    made = {
        "fedavg": lambda: fedavg(lr),
        "fedavgm": lambda: fedavgm(lr, settings.momentum),
        "fedadam": lambda: fedadam(lr, *betas, tau),
        "fedyogi": lambda: fedyogi(lr, *betas, tau),
        "fedadagrad": lambda: fedadagrad(lr, tau),
        "median": lambda: median(lr),
        "trimmed_mean": lambda: trimmed_mean(settings.trim, lr),
        "krum": lambda: krum(settings.tolerated, lr),
        "multi_krum": lambda: multi_krum(settings.tolerated, lr),
        "norm_clipping": lambda: norm_clipping(settings.clip_norm, lr),
        "fednova": lambda: fednova(lr),
        "scaffold": lambda: scaffold(lr),
        "feddyn": lambda: feddyn(settings.alpha),
        "fedbuff": lambda: fedbuff(lr, settings.staleness),
        "fedasync": lambda: fedasync(lr, settings.staleness),
    }[settings.strategy]()
    weighted = settings.sampling == "weighted"
    return replace(made, sample=draw(settings.fraction, weighted=weighted))


def check_updates(settings: ServerSettings, agents: int) -> None:
    """Raise ``SettingError`` where a full round has too few updates for its rule, or too many."""
    strategy, drawn = strategy_of(settings), settings.updates(agents)
    given = f"updates a round, and {agents} agents give {drawn}"
    remedy = (
        f"needs {strategy.least} {given}; "
        "have more agents, or set server.trim, server.tolerated or another strategy"
    )
    require(strategy.least <= drawn, "server.strategy", settings.strategy, remedy)
    remedy = (
        f"takes at most {strategy.most} {given}; lower server.fraction, or set another strategy"
    )
    require(drawn <= strategy.most, "server.strategy", settings.strategy, remedy)
