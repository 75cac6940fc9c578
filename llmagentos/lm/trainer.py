"""What agents do with a task, one after the other on one shared model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel

from llmagentos.adapter import refit
from llmagentos.corpus import Silo
from llmagentos.layout import Layout
from llmagentos.lm.assignment import Assignment, assigned, silo_of
from llmagentos.lm.evaluate import evaluate
from llmagentos.lm.moments import left_by, take_up
from llmagentos.lm.pull import Pull
from llmagentos.lm.residual import beside, residual_of
from llmagentos.lm.train import train
from llmagentos.lm.workbench import Workbench
from llmagentos.messages import Task, Update, answer, check_layout
from llmagentos.seeds import seed_of

Track = Callable[[Iterable[Any], str], Iterable[Any]]
"""Passes on what it is given, and shows how far along it is under a label."""


def untracked(items: Iterable[Any], _label: str) -> Iterable[Any]:
    """The items, with nothing shown."""
    return items


class LoraTrainer:
    """Answers the tasks of every agent whose silo it holds; the agents share one frozen model.

    A task finds nothing of the one before: adapter, optimizer and random numbers are its own.
    Under several processes each has a trainer, and all of them do the same task at a time.
    """

    def __init__(
        self,
        model: PeftModel,
        layout: Layout,
        silos: Mapping[str, Silo],
        *,
        accelerator: Accelerator,
        track: Track = untracked,
    ) -> None:
        self.bench = Workbench(model, accelerator)
        self.layout = layout
        self.silos = silos
        self.track = track
        assert self.bench.flat.vector.numel() == layout.size
        model.eval()

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The updates of the tasks, one at a time."""
        for task in tasks:
            yield [self.update(task)]

    def update(self, task: Task) -> Update:
        """The change of the adapter, ``delta`` ``(d,)``, after a round on the agent's own rows."""
        assignment = self.assigned(task)
        pull = self._load(task)
        process = self.bench.accelerator.process_index
        torch.manual_seed(seed_of(task.seed, "dropout", task.agent, task.round, process))
        settings, part = assignment.settings, assignment.trained
        optimizer = self.bench.fresh_optimizer(settings, self.bench.flat.piece(part))
        take_up(optimizer, [task], self.layout, part)
        steps = self.track(assignment.steps(), f"{task.agent}: fit")
        with self.bench.training(settings.gradient_checkpointing), self.beside(task):
            losses = train(self.bench, optimizer, steps, pull, settings)
        self.bench.check()
        delta = (self.bench.flat.vector.detach() - pull.start).cpu().numpy()
        (moments,) = left_by(optimizer, [task], self.layout, part)
        vectors = {"delta": refit(delta, self.layout, task.layout), **moments}
        return assignment.update(vectors, losses)

    def assigned(self, task: Task) -> Assignment:
        """The task with its silo and checked settings."""
        precision = self.bench.accelerator.mixed_precision
        return assigned(task, self.silos, self.layout, precision)

    def evaluate(self, task: Task) -> Update:
        """Loss, accuracy and target tokens of the first ``rows`` held-out rows of the agent."""
        self._load(task)
        rows = silo_of(task, self.silos).held_out[: task.settings["rows"]]
        label = f"{task.agent}: {task.kind}"
        batch = task.settings["batch"]
        with self.beside(task):
            metrics = evaluate(self.bench, rows, batch, lambda found: self.track(found, label))
        return answer(task, metrics=metrics)

    def beside(self, task: Task) -> AbstractContextManager[None]:
        """The model computes with the task's residual inside, where it has one."""
        return beside(self.bench.model, self.layout, residual_of(task, self.layout))

    def _load(self, task: Task) -> Pull:
        """What training is pulled to; the dispatched adapter is the model's from here on."""
        check_layout(task, self.layout)
        pull = Pull.of(task, self.layout, self.bench.flat.vector.device)
        self.bench.flat.load(pull.start)
        self.bench.check()
        return pull
