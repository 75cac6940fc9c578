"""Agents whose optimizer goes on where their last counted round left it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmagentos.engines.engine import Trainer
from llmagentos.engines.wrapping import fitted
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import MOMENTS, Task, Update


class KeepingTrainer:
    """A trainer that is given the moments that it left, where tasks say ``keep_moments``.

    They are in ``folder``, agent by agent, and in no update. A round that the server did not count
    leaves no trace in them.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The trainer's updates, as they come."""
        return fitted(self.trainer, tasks, self._reminded, self._kept)

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics."""
        return self.trainer.evaluate(task)

    def _reminded(self, task: Task) -> Task:
        if not task.settings.get("keep_moments"):
            return task
        return replace(task, vectors={**task.vectors, **self._memory(task).recall(task)})

    def _kept(self, update: Update, task: Task) -> Update:
        moments = {name: x for name, x in update.vectors.items() if name.startswith(f"{MOMENTS}.")}
        if not moments:
            return update
        self._memory(task).keep(task, moments)
        rest = {name: x for name, x in update.vectors.items() if name not in moments}
        return replace(update, vectors=rest)

    def _memory(self, task: Task) -> AgentMemory:
        return AgentMemory(self.folder / folder_name(task.agent) / MOMENTS)
