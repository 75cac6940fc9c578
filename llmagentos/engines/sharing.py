"""What an agent keeps to itself is added to each task, and taken off each change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np

from llmagentos.aggregation import chapters, joined, rank_of
from llmagentos.engines.engine import Trainer
from llmagentos.engines.wrapping import fitted
from llmagentos.errors import Refused, SettingError
from llmagentos.layout import Part, Vector
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, Update


class SharingTrainer:
    """A trainer of whole adapters for tasks that give and ask for parts of them.

    What a task leaves out, the agent remembers from the last round that counted it, in ``folder``:
    the part of the adapter that it was not given, its own factors where they are private, and
    chapters of the residual, whose ranks come to ``residual_rank`` at most. A change that is not
    asked for stays here and in no message.
    """

    def __init__(self, trainer: Trainer, folder: Path, residual_rank: float = inf) -> None:
        self.trainer = trainer
        self.folder = folder
        self.residual_rank = residual_rank

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The changes of the parts that are asked for."""
        return fitted(self.trainer, tasks, self.completed, self._shared)

    def evaluate(self, task: Task) -> Update:
        """The metrics of the adapter with the agent's own part in it."""
        return self.trainer.evaluate(self.completed(task))

    def completed(self, task: Task) -> Task:
        """The task with the whole adapter, and with the residual in one piece.

        Raises ``SettingError`` where the agent has lost what it should remember, and ``Refused``
        where the residual is of too high a rank.
        """
        names = task.settings.get("residuals", ())
        given = task.settings.get("given", "both")
        partial = given != "both" or not task.vectors.keys() >= set(names)
        remembered = self._memory(task).recall(task) if partial else {}
        own = {**_chapters(task, names, remembered), "adapter": _whole(task, given, remembered)}
        vectors = {**task.vectors, **own}
        if names:
            self._check_rank(task, names, vectors)
            vectors["residual"] = joined(task.layout, [vectors[name] for name in names])
        return replace(task, vectors=vectors)

    def _check_rank(self, task: Task, names: Sequence[str], vectors: Mapping[str, Vector]) -> None:
        """Before they are joined: a name costs a task nothing, and its chapter much memory."""
        if len(set(names)) < len(names):
            raise Refused("a task names a chapter of the residual twice")
        rank = sum(rank_of(task.layout.fitting(vectors[name])) for name in names)
        if rank > self.residual_rank:
            raise Refused(
                f"residual_rank={rank} with what earlier rounds added to the base: I agreed to at "
                f"most {self.residual_rank:g}"
            )

    def _shared(self, update: Update, task: Task) -> Update:
        """The update with the part of its change that was asked for; the rest is remembered."""
        delta, kept = update.vectors["delta"], chapters(task.vectors)
        if "given" in task.settings:
            own = task.vectors["adapter"] + delta
            own[task.sent] = task.vectors["adapter"][task.sent]
            kept["adapter"] = own
        if kept:
            self._memory(task).keep(task, kept)
        return replace(update, vectors={**update.vectors, "delta": delta[task.sent]})

    def _memory(self, task: Task) -> AgentMemory:
        return AgentMemory(self.folder / folder_name(task.agent) / "share")


def _whole(task: Task, given: Part, remembered: Mapping[str, Vector]) -> Vector:
    """The adapter with the part that the task gives; the rest is as the agent left it.

    A lost factor of the agent's own begins again at zero, as B does.
    Raises ``SettingError`` where more than that is lost.
    """
    if given == "both":
        return task.vectors["adapter"]
    if "adapter" not in remembered:
        _check_forgotten(task)
    whole = remembered.get("adapter", np.zeros(task.layout.size, np.float32)).copy()
    whole[task.layout.part(given)] = task.vectors["adapter"]
    return whole


def _check_forgotten(task: Task) -> None:
    """Raise ``SettingError`` unless zero stands for the part that an agent has lost."""
    if task.settings["trained"] == task.settings["sent"]:
        raise _forgotten(task, "of the half of the adapter")
    if task.layout.factors != task.layout:
        raise SettingError(
            f"agent {task.agent!r} has lost the modules or biases of its own that round "
            f"{task.receipt} left with it, and nobody else has them; restore its folder"
        )


def _chapters(
    task: Task, names: Sequence[str], remembered: Mapping[str, Vector]
) -> dict[str, Vector]:
    """The chapters of the residual that are in force, given or remembered."""
    known = {**remembered, **task.vectors}
    lost = [name for name in names if name not in known]
    if lost:
        raise _forgotten(task, f"of {lost[0]}, which is part of the base,")
    return {name: known[name] for name in names}


def _forgotten(task: Task, what: str) -> SettingError:
    return SettingError(
        f"agent {task.agent!r} remembers nothing {what} that round {task.receipt} left with it; "
        "it gets all of it in its next round"
    )
