"""Agents that correct their gradients by what they keep from round to round."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmagentos.engines.corrections import CORRECTIONS
from llmagentos.engines.engine import Trainer
from llmagentos.engines.wrapping import fitted
from llmagentos.errors import JournalError
from llmagentos.layout import Vector
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, Update


class CorrectingTrainer:
    """A trainer whose agents train with the correction that their tasks name, if they name one.

    The trainer gets its linear term as ``vectors["linear"]``, to add to every gradient. What an
    agent keeps is in ``folder``, agent by agent.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The trainer's updates, as they come, with what their corrections send.

        An agent that has lost what it kept is an error once those before it have their updates.
        """
        return fitted(self.trainer, tasks, self._ready, self._learnt)

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics."""
        return self.trainer.evaluate(task)

    def _ready(self, task: Task) -> Task:
        return with_linear(task, self._memory(task))

    def _learnt(self, update: Update, task: Task) -> Update:
        return learnt(update, task, self._memory(task))

    def _memory(self, task: Task) -> AgentMemory:
        return AgentMemory(self.folder / folder_name(task.agent) / "correction")


def with_linear(task: Task, memory: AgentMemory) -> Task:
    """The task with the linear term of its correction.

    Raises ``JournalError`` when the agent's memory does not hold what the server counts on.
    """
    name = task.settings.get("correction")
    if name is None:
        return task
    if memory.lost(task):
        raise JournalError(
            f"{memory.folder} has lost what the agent kept after round {task.receipt}, which "
            f"{name} counts on; put the folder back, or start another run"
        )
    linear = CORRECTIONS[name].linear(task, own_vector(task, memory))
    return replace(task, vectors={**task.vectors, "linear": linear})


def learnt(update: Update, task: Task, memory: AgentMemory) -> Update:
    """The update with the change of the agent's own vector, where the task wants it.

    The vector after the round is kept, and counts once a later receipt names the round.
    """
    name = task.settings.get("correction")
    if name is None:
        return update
    correction, before = CORRECTIONS[name], own_vector(task, memory)
    with np.errstate(all="ignore"):
        after = correction.learnt(task, before, update)
        memory.keep(task, {correction.keeps: after})
        changes = {correction.keeps: after - before}
    sent = {beside: changes[beside] for beside in task.carried[1:]}
    return replace(update, vectors={**update.vectors, **sent})


def own_vector(task: Task, memory: AgentMemory) -> Vector:
    """What the agent keeps for the task's correction, ``(d,)``; zero before its first round."""
    kept = memory.recall(task)
    name = CORRECTIONS[task.settings["correction"]].keeps
    return kept.get(name, np.zeros(task.layout.size, np.float32))
