"""An agent's last step before it answers: its change in the codec that the task asks for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmagentos.codecs import asked_codec, codec_of
from llmagentos.engines.engine import Trainer
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, Update
from llmagentos.seeds import generator


class CodingTrainer:
    """A trainer whose changes are coded; what that loses is kept in ``folder``, agent by agent."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The trainer's updates, as they come, in the codecs of their tasks."""
        asked = {task.agent: task for task in tasks}
        for updates in self.trainer.fit(tasks):
            yield [self._coded(update, asked[update.agent]) for update in updates]

    def _coded(self, update: Update, task: Task) -> Update:
        return coded(update, task, AgentMemory(self.folder / folder_name(task.agent)))

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics."""
        return self.trainer.evaluate(task)


def coded(update: Update, task: Task, memory: AgentMemory) -> Update:
    """The update with its delta in the task's codec.

    With error feedback the delta and what earlier rounds have lost of the same part is encoded,
    and memory keeps the difference to what arrives: Seide et al. 2014, "1-bit SGD", and Karimireddy
    et al. 2019, arXiv:1901.09847, Algorithm 2. Draws come from the task's seed, agent and round.
    """
    settings = asked_codec(task.settings)
    codec, delta = codec_of(settings), update.vectors["delta"]
    rng = generator(task.seed, "codec", task.agent, task.round)
    if not (codec.lossy and settings.error_feedback):
        return replace(update, vectors=codec.encode(delta, rng))
    with np.errstate(all="ignore"):
        owed, name = memory.recall(task), f"residual.{task.settings.get('sent', 'both')}"
        wanted = delta + owed.get(name, np.float32(0))
        parts = codec.encode(wanted, rng)
        arrived = np.asarray(codec.read(parts, len(wanted)), np.float32)
        memory.keep(task, {**owed, name: wanted - arrived})
    return replace(update, vectors=parts)
