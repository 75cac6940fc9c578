"""An agent as layers around its trainer: a task passes them inwards, its update outwards."""

from math import inf
from pathlib import Path

from llmagentos.engines.coding import CodingTrainer
from llmagentos.engines.correcting import CorrectingTrainer
from llmagentos.engines.engine import Trainer
from llmagentos.engines.keeping import KeepingTrainer
from llmagentos.engines.personalising import PersonalisingTrainer
from llmagentos.engines.sharing import SharingTrainer
from llmagentos.engines.veiling import VeilingTrainer


def with_memory(trainer: Trainer, folder: Path, residual_rank: float = inf) -> CodingTrainer:
    """The trainer of agents that do as tasks say and remember in ``folder``.

    Each layer looks at what tasks say for it and is as good as absent where they say nothing. What
    leaves is veiled after it was cut to what is shared, and coded last, so that neither the loss of
    a codec nor its memory knows what the veil hid. ``residual_rank`` is the highest rank of what
    all rounds together may add to the agents' base.
    """
    own = PersonalisingTrainer(trainer, folder)  # then trains the agent's own adapter
    kept = KeepingTrainer(own, folder)  # brings the optimizer's moments, and keeps them
    corrected = CorrectingTrainer(kept, folder)  # adds SCAFFOLD's and FedDyn's terms
    shared = SharingTrainer(corrected, folder, residual_rank)  # completes tasks, cuts changes
    veiled = VeilingTrainer(shared, folder)  # clips and blurs what may leave
    return CodingTrainer(veiled, folder)
