"""Agents that train an adapter of their own beside the one that they share."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmagentos.engines.engine import Trainer
from llmagentos.engines.personal import first_own, training_own, with_own
from llmagentos.engines.wrapping import fitted
from llmagentos.layout import Vector
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, Update
from llmagentos.settings import asked_personal

log = logging.getLogger(__name__)


class PersonalisingTrainer:
    """A trainer whose agents have adapters of their own, if their tasks ask for them.

    An agent's own adapter is in ``folder`` and in no update. It is trained after the shared one,
    side by side with those of the agents whose updates came together.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[Sequence[Update]]:
        """The trainer's updates as they are; the agents' own adapters are kept before.

        An agent whose own adapter is damaged is an error once those before it have their updates.
        """
        asked = {task.agent: task for task in tasks}
        for updates in fitted(self.trainer, tasks, self._ready, lambda update, _: update):
            self._train_own([asked[update.agent] for update in updates])
            yield updates

    def _ready(self, task: Task) -> Task:
        if _wanted(task):
            self._memory(task).check(task)
        return task

    def evaluate(self, task: Task) -> Update:
        """The shared adapter's metrics, and from an agent's first round on its own one's too.

        They are ``personal_loss`` and ``personal_accuracy``.
        """
        update, own = self.trainer.evaluate(task), self.own(task)
        if own is None:
            return update
        found = self.trainer.evaluate(with_own(task, own)).metrics
        personal = {f"personal_{name}": found[name] for name in found.keys() & TOLD}
        return replace(update, metrics={**update.metrics, **personal})

    def own(self, task: Task) -> Vector | None:
        """The agent's own vector as the last round that counted it left it, ``(d,)``.

        None before the first of them, and where tasks ask for none.
        """
        return self._memory(task).recall(task).get(KEPT) if _wanted(task) else None

    def _train_own(self, tasks: Sequence[Task]) -> None:
        personal = {task.agent: task for task in tasks if _wanted(task)}
        before = {agent: self._before(task) for agent, task in personal.items()}
        trained = [training_own(task, before[agent]) for agent, task in personal.items()]
        for updates in self.trainer.fit(trained) if trained else ():
            for update in updates:
                task = personal[update.agent]
                self._memory(task).keep(task, {KEPT: _moved(before[update.agent], update)})

    def _before(self, task: Task) -> Vector:
        own = self.own(task)
        return first_own(task) if own is None else own

    def _memory(self, task: Task) -> AgentMemory:
        return AgentMemory(self.folder / folder_name(task.agent) / KEPT)


KEPT = "personal"
"""What memory calls an agent's own vector, and the folder that it is in."""

TOLD = {"loss", "accuracy"}
"""The metrics of an agent's own adapter that leave it."""


def _wanted(task: Task) -> bool:
    return asked_personal(task.settings).method != "none"


def _moved(own: Vector, update: Update) -> Vector:
    """The own vector after a round; as before where the round took it out of the numbers."""
    with np.errstate(all="ignore"):
        after: Vector = own + np.asarray(update.vectors["delta"], np.float32)
    if np.isfinite(after).all():
        return after
    log.warning(
        "the own adapter of agent %r is not finite after round %d, and stays as it was; "
        "lower personal.mu or local.lr",
        update.agent,
        update.round,
    )
    return own
