"""What agents do with a task, one after the other on one shared model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor

from llmagentos.adapter import Layout
from llmagentos.corpus import Silo
from llmagentos.errors import SettingError
from llmagentos.lm.batches import target_tokens
from llmagentos.lm.evaluate import evaluate
from llmagentos.lm.schedule import Step, learning_rate, row_order, steps_of_round
from llmagentos.lm.train import train
from llmagentos.lm.workbench import Workbench
from llmagentos.messages import Task, Update, answer
from llmagentos.seeds import seed_of
from llmagentos.settings import LocalSettings
from llmagentos.settings.checks import require

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

    def fit(self, task: Task) -> Update:
        """The change of the adapter, ``delta`` ``(d,)``, after a round on the agent's own rows.

        ``task.settings`` holds the fields of ``LocalSettings``, ``horizon`` in rounds and
        ``weighting``; ``task.seed`` is the run's, the same in every round.
        """
        silo, settings = self._silo(task), self._local_settings(task)
        anchor = self._load(task)
        process = self.bench.accelerator.process_index
        torch.manual_seed(seed_of(task.seed, "dropout", task.agent, task.round, process))
        steps = self.track(_steps(task, settings, silo), f"{task.agent}: fit")
        with self.bench.training(settings.gradient_checkpointing):
            losses = train(self.bench, steps, anchor, settings)
        self.bench.check()
        metrics = {
            "train_loss": sum(losses) / len(losses),
            "first_loss": losses[0],
            "examples": float(len(silo.train)),
            "tokens": float(target_tokens(silo.train)),
        }
        delta = (self.bench.flat.vector.detach() - anchor).cpu().numpy()
        weight = {**metrics, "uniform": 1.0}[task.settings.get("weighting", "examples")]
        return answer(task, vectors={"delta": delta}, weight=weight, metrics=metrics)

    def evaluate(self, task: Task) -> Update:
        """Loss, accuracy and target tokens of the first ``rows`` held-out rows of the agent."""
        self._load(task)
        rows = self._silo(task).held_out[: task.settings["rows"]]
        label = f"{task.agent}: {task.kind}"
        metrics = evaluate(
            self.bench, rows, task.settings["batch"], lambda batches: self.track(batches, label)
        )
        return answer(task, metrics=metrics)

    def _load(self, task: Task) -> Tensor:
        """The dispatched adapter, ``(d,)``, which is the model's from here on."""
        if task.layout != self.layout:
            raise SettingError(
                f"run {task.run!r} trains an adapter of {task.layout.size} values, agent "
                f"{task.agent!r} has one of {self.layout.size}; give both the same lora settings"
            )
        anchor = torch.tensor(task.vectors["adapter"], device=self.bench.flat.vector.device)
        self.bench.flat.load(anchor)
        self.bench.check()
        return anchor

    def _silo(self, task: Task) -> Silo:
        if task.agent not in self.silos:
            known = ", ".join(self.silos)
            raise SettingError(f"no silo for agent {task.agent!r} here; there are {known}")
        return self.silos[task.agent]

    def _local_settings(self, task: Task) -> LocalSettings:
        settings = LocalSettings(**{f.name: task.settings[f.name] for f in fields(LocalSettings)})
        own = self.bench.accelerator.mixed_precision
        fits = settings.precision in {"auto", own}
        require(fits, "local.precision", settings.precision, f"this agent was started with {own}")
        return settings


def _steps(task: Task, settings: LocalSettings, silo: Silo) -> list[Step]:
    """The steps of a task: which rows, and at which learning rate."""
    count = settings.steps * settings.accumulation * settings.batch
    start = (task.round - 1) * count
    order = row_order(task.seed, task.agent, len(silo.train), start, count)
    horizon = task.settings["horizon"]
    rates = [learning_rate(settings, task.round, s, horizon) for s in range(settings.steps)]
    return steps_of_round(settings, silo.train, order, rates)
