"""What the server does with the agents' updates."""

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from llmagentos.settings.checks import require

StrategyName = Literal[
    "fedavg",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "fednova",
    "scaffold",
    "feddyn",
    "fedbuff",
    "fedasync",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "norm_clipping",
]
OF_AGENTS = ("fednova", "scaffold", "feddyn", "fedbuff", "fedasync")
"""Strategies that ask more of agents than to train in common rounds."""
SERVER_SIDE = tuple(name for name in get_args(StrategyName) if name not in OF_AGENTS)
"""The others, which take a part of the adapter as they take the whole."""


@dataclass(frozen=True)
class ServerSettings:
    """Who takes part in a round, how updates are weighted, and the server's own step."""

    strategy: StrategyName = "fedavg"
    """What is done with the agents' changes: averaged, given to an optimizer (Reddi et al. 2021,
    arXiv:2003.00295), divided by the agents' steps (fednova), corrected for where each agent drifts
    (scaffold, feddyn), taken as they come, with no common rounds (fedbuff, fedasync), or
    combined so that some false ones cannot carry the adapter away (the others)."""
    lr: float | None = None
    """The server's learning rate, unless given 0.03 for fedadam, fedyogi and fedadagrad, 0.6 for
    fedasync, else 1."""
    buffer: int = 2
    """Updates that a step of fedbuff waits for (Nguyen et al. 2022, arXiv:2106.06639); 1 is a step
    an update, as fedasync always takes (Xie et al. 2019, arXiv:1903.03934)."""
    staleness: float = 0.5
    """In fedbuff and fedasync an update that s steps have overtaken counts (1 + s)^-staleness."""
    momentum: float = 0.9
    """Momentum of fedavgm."""
    beta1: float = 0.9
    """Decay of the first moment in fedadam and fedyogi."""
    beta2: float = 0.99
    """Decay of the second moment in fedadam and fedyogi."""
    tau: float = 1e-3
    """Adaptivity of fedadam, fedyogi and fedadagrad; the second moment starts at tau squared."""
    residual_rank: int = 64
    """Highest rank of what the aggregations fedex and flora keep beside the base; beyond it the
    best product of that rank takes its place, and the error is reported."""
    ridge: float = 0.01
    """How much lora_fair holds back, as a share of the mean square of the averaged A."""
    alpha: float = 0.1
    """FedDyn's alpha (Acar et al. 2021, arXiv:2111.04263): how strongly agents are held together.
    Too small a one lets the first rounds swing far."""
    trim: int = 1
    """Values that trimmed_mean drops at either end of every coordinate."""
    tolerated: int = 1
    """False updates that krum and multi_krum put up with; they need twice as many and 3 in all."""
    clip_norm: float = 1.0
    """Norm to which norm_clipping shortens a longer update."""
    weighting: Literal["examples", "tokens", "uniform"] = "examples"
    """What an agent's weight counts: its training rows, their target tokens, or one each."""
    fraction: float = 1.0
    """Share of the agents that is drawn for a round."""
    sampling: Literal["uniform", "weighted"] = "uniform"
    """Whether agents are drawn alike, or in proportion to their examples; the updates of agents
    drawn so count alike, else a large agent would count twice. Who has more examples than one place
    in a round stands for is always drawn, and counts for less than its share."""
    quorum: float = 0.5
    """Share of the drawn agents whose updates must count for a round to close."""
    spare: float = 0.0
    """Share of the drawn agents that a round does not wait for (over-selection, Bonawitz et al.
    2019, arXiv:1902.01046, section 9): it closes once all others' updates count, but not before
    the quorum, and who is later is refused in it."""
    deadline_s: float | None = None
    """Seconds that agents in processes of their own have for an answer; who is later is refused in
    that round, and the round closes if it has its quorum. The server waits as long as it takes
    unless given."""
    resend_s: float | None = None
    """Seconds of silence after which an agent is asked again, who answers from its journal if it
    has answered. Unless given half an hour over Flower, whose nodes give an answer up when their
    connection breaks while they send it, and never over the other engines."""

    def __post_init__(self) -> None:
        require(self.lr is None or self.lr > 0, "server.lr", self.lr, "needs to be above 0")
        require(self.tau >= 1e-18, "server.tau", self.tau, "needs to be at least 1e-18")
        for name in ("ridge", "residual_rank"):
            value = getattr(self, name)
            require(value > 0, f"server.{name}", value, "needs to be above 0")
        require(self.buffer >= 1, "server.buffer", self.buffer, "needs at least 1")
        staleness = self.staleness
        require(0 <= staleness < inf, "server.staleness", staleness, "needs 0 or more")
        alpha = self.alpha
        require(0 < alpha < inf, "server.alpha", alpha, "needs to be above 0")
        require(0 < self.clip_norm < inf, "server.clip_norm", self.clip_norm, "needs to be above 0")
        for name in ("trim", "tolerated"):
            value = getattr(self, name)
            require(value >= 0, f"server.{name}", value, "needs to be 0 or more")
        for name in ("momentum", "beta1", "beta2", "spare"):
            value = getattr(self, name)
            require(0 <= value < 1, f"server.{name}", value, "needs to lie in [0, 1)")
        for name in ("fraction", "quorum"):
            value = getattr(self, name)
            require(0 < value <= 1, f"server.{name}", value, "needs to lie in (0, 1]")
        remedy = "needs server.fraction below 1, else everybody is drawn; lower it, or set uniform"
        drawn = self.sampling == "uniform" or self.fraction < 1
        require(drawn, "server.sampling", self.sampling, remedy)
        for name in ("deadline_s", "resend_s"):
            value = getattr(self, name)
            require(value is None or value > 0, f"server.{name}", value, "needs to be above 0")

    @property
    def server_lr(self) -> float:
        """The server's learning rate, the default of its strategy unless given."""
        if self.lr is not None:
            return self.lr
        tuned = {"fedadam": 0.03, "fedyogi": 0.03, "fedadagrad": 0.03, "fedasync": 0.6}
        return tuned.get(self.strategy, 1.0)

    @property
    def asynchronous(self) -> bool:
        """Whether agents have no common rounds."""
        return self.strategy in ("fedbuff", "fedasync")

    def updates(self, agents: int) -> int:
        """How many updates a round is made of, where there are so many agents."""
        alone = {"fedbuff": self.buffer, "fedasync": 1}
        return alone.get(self.strategy, max(1, round(self.fraction * agents)))

    @property
    def counting(self) -> str:
        """What an update's weight counts, given how agents are drawn."""
        return "uniform" if self.sampling == "weighted" else self.weighting
