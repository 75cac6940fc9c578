"""Who carries tasks and updates."""

from llmagentos.engines.coding import CodingTrainer, coded
from llmagentos.engines.engine import Engine, Reply, Trainer
from llmagentos.engines.in_process import InProcessEngine
from llmagentos.engines.sharing import SharingTrainer

__all__ = [
    "CodingTrainer",
    "Engine",
    "InProcessEngine",
    "Reply",
    "SharingTrainer",
    "Trainer",
    "coded",
]
