"""What agents do with their tasks, many of them side by side on one shared model."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch

from llmagentos.adapter import refit
from llmagentos.corpus import Silo
from llmagentos.errors import SettingError
from llmagentos.lm.cohort_train import Training, optimizer_of, train_cohort
from llmagentos.lm.moments import left_by, take_up
from llmagentos.lm.pull import Pull
from llmagentos.lm.stacked import StackedAdapter
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update
from llmagentos.seeds import seed_of

log = logging.getLogger(__name__)

SHARED = ("batch", "accumulation", "optimizer", "gradient_checkpointing")
"""Local settings in which the agents of a group agree; all others may differ."""


class CohortTrainer:
    """Answers fit tasks of up to ``agents`` agents at a time, and evaluations one by one.

    Each agent ends where ``one_by_one`` takes it, to rounding, its dropout included. Only what a
    base model drops by itself is drawn for a group as a whole, from the seed, the round and the
    names of its agents.
    """

    def __init__(self, one_by_one: LoraTrainer, agents: int) -> None:
        self.one_by_one = one_by_one
        self.agents = agents

    @property
    def silos(self) -> Mapping[str, Silo]:
        """The rows of every agent, by its name."""
        return self.one_by_one.silos

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The updates of the tasks; those of a group come together, so no group is ever split.

        What a group cannot do together, its agents do one by one.
        """
        for group in groups(tasks, self.agents):
            try:
                together = self._together(group) if len(group) > 1 else None
            except (RuntimeError, MemoryError, SettingError) as error:
                names = ", ".join(task.agent for task in group)
                log.warning("%s train one by one, because side by side: %s", names, error)
                together = None
            yield from self.one_by_one.fit(group) if together is None else [together]

    def update(self, task: Task) -> Update:
        """The update of one agent alone."""
        return self.one_by_one.update(task)

    def evaluate(self, task: Task) -> Update:
        """Held-out metrics of one agent."""
        return self.one_by_one.evaluate(task)

    def _together(self, tasks: Sequence[Task]) -> list[Update]:
        """The updates of a group."""
        bench = self.one_by_one.bench
        members = sorted(map(self.one_by_one.assigned, tasks), key=lambda m: -m.settings.steps)
        layout, device = self.one_by_one.layout, bench.flat.vector.device
        pulls = Pull.side_by_side([member.task for member in members], layout, device)
        stack = StackedAdapter(layout, pulls.start, members[0].trained)
        optimizer = optimizer_of(stack, [member.settings for member in members])
        kept = optimizer, [member.task for member in members], layout, members[0].trained
        take_up(*kept)
        courses = [(member.steps(), member.settings) for member in members]
        numbers = self.one_by_one.track(range(len(courses[0][0])), f"{len(tasks)} agents: fit")
        names = (task.agent for task in tasks)
        torch.manual_seed(seed_of(tasks[0].seed, "dropout", tasks[0].round, *names))
        again = members[0].settings.gradient_checkpointing
        beside = self.one_by_one.beside(tasks[0])
        with bench.training(again), stack.on(bench.model), beside:
            losses = train_cohort(bench, Training(stack, optimizer), courses, numbers, pulls)
        deltas = (stack.values - pulls.start).cpu().numpy()
        updates = {}
        for member, delta, lost, moments in zip(
            members, deltas, losses, left_by(*kept), strict=True
        ):
            change = refit(delta, layout, member.task.layout)
            updates[member.task.agent] = member.update({"delta": change, **moments}, lost)
        return [updates[task.agent] for task in tasks]


def groups(tasks: Sequence[Task], agents: int) -> Iterator[list[Task]]:
    """Consecutive tasks that may train together, at most ``agents`` in a group.

    They have the same residual beside the base. Where whole groups are taken away, as those that a
    resumed round has, the others stay.
    """

    def shared(task: Task) -> list[object]:
        residual = task.vectors.get("residual", np.zeros(0, np.float32))
        part = task.settings.get("trained", "both")
        layers = task.layout.names if residual.size else ()
        return [*(task.settings[name] for name in SHARED), part, layers, residual.tobytes()]

    for _, alike in groupby(tasks, shared):
        run = list(alike)
        yield from (run[start : start + agents] for start in range(0, len(run), agents))
