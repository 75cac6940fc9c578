"""Who carries tasks and updates."""

from llmagentos.engines.by_run import MemoryByRun
from llmagentos.engines.coding import CodingTrainer, coded
from llmagentos.engines.correcting import CorrectingTrainer
from llmagentos.engines.engine import Engine, Reply, Trainer
from llmagentos.engines.in_process import InProcessEngine
from llmagentos.engines.layers import with_memory
from llmagentos.engines.paced import PacedEngine
from llmagentos.engines.personalising import PersonalisingTrainer
from llmagentos.engines.sharing import SharingTrainer

__all__ = [
    "CodingTrainer",
    "CorrectingTrainer",
    "Engine",
    "InProcessEngine",
    "MemoryByRun",
    "PacedEngine",
    "PersonalisingTrainer",
    "Reply",
    "SharingTrainer",
    "Trainer",
    "coded",
    "with_memory",
]
