"""What one agent does with its adapter in one round."""

from dataclasses import dataclass, field
from typing import Literal

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class LocalSettings:
    """Training on the agent's own corpus, the same for every agent but for its steps."""

    steps: int = 8
    """Optimizer steps a round."""
    steps_by_agent: dict[str, int] = field(default_factory=dict)
    """Agent name to its optimizer steps a round, where they are not ``steps``."""
    batch: int = 4
    """Rows in a forward pass, over all processes of the agent."""
    accumulation: int = 1
    """Forward passes whose gradients make one step."""
    lr: float = 2e-3
    """Learning rate of the agent's optimizer at its highest."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimizer of the agent."""
    keep_moments: bool = False
    """Let adamw go on in a round with the moments that it left in the agent's last one; they stay
    with the agent. It starts afresh otherwise."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the adapter."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate over all rounds of the run, after the warm-up."""
    warmup_steps: int = 0
    """Steps, counted over the whole run, in which the learning rate rises from zero."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    mu: float = 0.0
    """Pull towards the global adapter, FedProx's mu (arXiv:1812.06127); 0 is FedAvg."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision; ``auto`` is bf16 on a GPU that has it, else none."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulation"):
            value = getattr(self, name)
            require(value >= 1, f"local.{name}", value, "needs at least 1")
        for name, steps in self.steps_by_agent.items():
            require(steps >= 1, f"local.steps_by_agent.{name}", steps, "needs at least 1")
        for name in ("weight_decay", "warmup_steps", "clip", "mu"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"local.{name}", value, "needs 0 or more")
        has_moments = self.optimizer == "adamw" or not self.keep_moments
        remedy = f"local.optimizer={self.optimizer!r} has none; leave it out, or take adamw"
        require(has_moments, "local.keep_moments", self.keep_moments, remedy)
        require(0 < self.lr < float("inf"), "local.lr", self.lr, "needs to be above 0")

    def steps_of(self, agent: str) -> int:
        """Optimizer steps that an agent takes in a round."""
        return self.steps_by_agent.get(agent, self.steps)
