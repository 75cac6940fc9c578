"""Who carries tasks and updates."""

from llmagentos.engines.engine import Engine, Reply, Trainer
from llmagentos.engines.in_process import InProcessEngine

__all__ = ["Engine", "InProcessEngine", "Reply", "Trainer"]
