"""How much held-out text is read, and when."""

from dataclasses import dataclass

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class EvaluationSettings:
    """Held-out evaluation on every agent's own silo; it costs less than training."""

    rows: int = 24
    """Held-out rows of each agent that are read after a round; 0 skips it."""
    every: int = 1
    """Rounds from one reading to the next; with many agents, of which few are drawn, reading
    takes longer than training."""
    final_rows: int = 64
    """Held-out rows of each agent that are read before the first and after the last round."""
    batch: int = 8
    """Rows in a forward pass."""
    away: bool = True
    """At the end, read every agent's own adapter on the silos of the others too, where agents have
    one and all of them are in one process: as many readings as there are pairs of agents."""

    def __post_init__(self) -> None:
        require(self.rows >= 0, "evaluation.rows", self.rows, "needs 0 or more")
        require(self.every >= 1, "evaluation.every", self.every, "needs 1 or more")
        require(self.final_rows >= 1, "evaluation.final_rows", self.final_rows, "needs 1 or more")
        require(self.batch >= 1, "evaluation.batch", self.batch, "needs at least 1")
