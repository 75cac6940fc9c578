"""A training task with what its agent brings to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import fsum

from llmagentos.corpus import Silo
from llmagentos.errors import SettingError
from llmagentos.layout import Layout, Vector
from llmagentos.lm.batches import target_tokens
from llmagentos.lm.schedule import Step, row_order, steps_of_round
from llmagentos.messages import Task, Update, answer, check_layout
from llmagentos.rates import rates_of_round, step_weight
from llmagentos.seeds import seed_of
from llmagentos.settings import LocalSettings
from llmagentos.settings.checks import require


@dataclass(frozen=True)
class Assignment:
    """A fit task, the agent's silo, its settings, checked, and where it trains the adapter.

    ``task.settings`` holds the fields of ``LocalSettings``, ``horizon`` in rounds and
    ``weighting``; ``task.seed`` is the run's, the same in every round.
    """

    task: Task
    silo: Silo
    settings: LocalSettings
    trained: slice

    def steps(self) -> list[Step]:
        """The steps of the round: which rows, at which learning rate, drawing from which seed."""
        task, settings, rows = self.task, self.settings, self.silo.train
        count = settings.steps * settings.accumulation * settings.batch
        order = row_order(task.seed, task.agent, len(rows), (task.round - 1) * count, count)
        purpose = task.seed, "dropout", task.agent, task.round
        seeds = [seed_of(*purpose, step) for step in range(settings.steps)]
        return steps_of_round(settings, rows, order, self.rates, seeds)

    @property
    def rates(self) -> list[float]:
        """The learning rates of the round's steps."""
        return rates_of_round(self.settings, self.task.round, self.task.settings["horizon"])

    def update(self, vectors: Mapping[str, Vector], losses: Sequence[float]) -> Update:
        """The answer: the change of the adapter, ``delta`` ``(d,)``, and the steps' losses.

        Beside the change it holds what the agent keeps for itself.
        """
        metrics = {
            "train_loss": fsum(losses) / len(losses),
            "examples": float(len(self.silo.train)),
            "tokens": float(target_tokens(self.silo.train)),
            "step_weight": step_weight(self.rates, self.settings.lr, self.settings.mu),
        }
        weighting = self.task.settings.get("weighting", "examples")
        weight = {**metrics, "uniform": 1.0}[weighting]
        return answer(self.task, vectors=vectors, weight=weight, metrics=metrics)


def assigned(task: Task, silos: Mapping[str, Silo], layout: Layout, precision: str) -> Assignment:
    """The assignment that a task is, for agents that train ``layout`` at ``precision``.

    Raises ``SettingError`` when the task is for another adapter, agent or precision.
    """
    check_layout(task, layout)
    settings = LocalSettings(**{f.name: task.settings[f.name] for f in fields(LocalSettings)})
    fits = settings.precision in {"auto", precision}
    remedy = f"this agent was started with {precision}"
    require(fits, "local.precision", settings.precision, remedy)
    trained = layout.part(task.settings.get("trained", "both"))
    return Assignment(task, silo_of(task, silos), settings, trained)


def silo_of(task: Task, silos: Mapping[str, Silo]) -> Silo:
    """The silo of the task's agent; ``SettingError`` where it is not among them."""
    if task.agent not in silos:
        known = ", ".join(silos)
        raise SettingError(f"no silo for agent {task.agent!r} here; there are {known}")
    return silos[task.agent]
