"""What an agent keeps of its own beside the shared adapter."""

from dataclasses import dataclass
from typing import Literal

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class PersonalSettings:
    """A second adapter at every agent, trained on its text alone, that is in no message."""

    method: Literal["none", "ditto", "dual"] = "none"
    """``ditto`` trains one that takes the place of the shared adapter and is pulled towards it (Li
    et al. 2021, arXiv:2012.04221), ``dual`` one that is added to it (after Yang et al. 2024,
    arXiv:2403.19211); see docs/personal.md."""
    mu: float = 0.1
    """Pull of ditto's adapter towards the shared one, the paper's lambda: 0 is local training."""
    steps: int | None = None
    """Optimizer steps of it a round, beside those of the shared one; as many unless given."""

    def __post_init__(self) -> None:
        require(0 <= self.mu < float("inf"), "personal.mu", self.mu, "needs 0 or more")
        steps = self.steps
        require(steps is None or steps >= 1, "personal.steps", steps, "needs at least 1")

    def steps_beside(self, shared: int) -> int:
        """Optimizer steps a round of an agent that takes so many for the shared adapter."""
        return 0 if self.method == "none" else self.steps or shared
