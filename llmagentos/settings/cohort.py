"""Agents that train side by side on one machine."""

from dataclasses import dataclass

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class CohortSettings:
    """How many agents are one batch, where ``trainer`` is ``cohort``."""

    agents: int | None = None
    """Agents side by side; as many as ``memory_gb`` holds unless given. Recorded: it changes the
    last bits."""
    memory_gb: float = 2.0
    """Memory for what the agents side by side take at most, beyond the base model."""

    def __post_init__(self) -> None:
        agents, memory = self.agents, self.memory_gb
        require(agents is None or agents >= 1, "cohort.agents", agents, "needs at least 1")
        require(0 < memory < float("inf"), "cohort.memory_gb", memory, "needs to be above 0")
