"""What the server does with the agents' updates."""

from dataclasses import dataclass
from typing import Literal

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class ServerSettings:
    """Who takes part in a round, how updates are weighted, and the server's own step."""

    strategy: Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"] = "fedavg"
    """The server's optimizer over the averaged change (Reddi et al. 2021, arXiv:2003.00295)."""
    lr: float | None = None
    """The server's learning rate; 1 for fedavg and fedavgm, else 0.03, unless given."""
    momentum: float = 0.9
    """Momentum of fedavgm."""
    beta1: float = 0.9
    """Decay of the first moment in fedadam and fedyogi."""
    beta2: float = 0.99
    """Decay of the second moment in fedadam and fedyogi."""
    tau: float = 1e-3
    """Adaptivity of fedadam, fedyogi and fedadagrad; the second moment starts at tau squared."""
    weighting: Literal["examples", "tokens", "uniform"] = "examples"
    """What an agent's weight counts: its training rows, their target tokens, or one each."""
    fraction: float = 1.0
    """Share of the agents that is drawn for a round."""
    sampling: Literal["uniform", "weighted"] = "uniform"
    """Whether agents are drawn alike, or in proportion to their examples; the updates of agents
    drawn so count alike, else a large agent would count twice."""
    quorum: float = 0.5
    """Share of the drawn agents whose updates must count for a round to close."""
    deadline_s: float | None = None
    """Seconds that agents have for an answer; who is later is refused in that round, and the round
    closes if it has its quorum. The server waits as long as it takes unless given."""
    resend_s: float | None = None
    """Seconds of silence after which an agent is asked again; not at all unless given."""

    def __post_init__(self) -> None:
        require(self.lr is None or self.lr > 0, "server.lr", self.lr, "needs to be above 0")
        require(self.tau > 0, "server.tau", self.tau, "needs to be above 0")
        for name in ("momentum", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"server.{name}", value, "needs to lie in [0, 1)")
        for name in ("fraction", "quorum"):
            value = getattr(self, name)
            require(0 < value <= 1, f"server.{name}", value, "needs to lie in (0, 1]")
        for name in ("deadline_s", "resend_s"):
            value = getattr(self, name)
            require(value is None or value > 0, f"server.{name}", value, "needs to be above 0")

    @property
    def server_lr(self) -> float:
        """The server's learning rate, the default of its strategy unless given."""
        if self.lr is not None:
            return self.lr
        return 1.0 if self.strategy in ("fedavg", "fedavgm") else 0.03

    @property
    def counting(self) -> str:
        """What an update's weight counts, given how agents are drawn."""
        return "uniform" if self.sampling == "weighted" else self.weighting
