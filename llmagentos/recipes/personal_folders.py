"""PEFT folders of the adapters that one agent has: the shared one and its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmagentos.adapter import Adapter
from llmagentos.aggregation import grown, rank_of
from llmagentos.engines import PersonalisingTrainer, SharingTrainer, Trainer
from llmagentos.engines.personal import with_own
from llmagentos.memory import folder_name
from llmagentos.messages import Task, Update
from llmagentos.publish import at_rank, own_card, write_peft_folder
from llmagentos.settings import asked_personal

SHARED, OWN = "adapter", "personal"
"""The shared adapter, and the one that an agent computes with where that is another."""


@dataclass(frozen=True)
class Published:
    """What a PEFT folder says of its adapter: ``adapter_config.json``, base model, run's seed."""

    config: dict[str, Any]
    source: str
    seed: int


def adapters_of(task: Task, trainer: Trainer, memory: Path) -> dict[str, Task]:
    """The task over the adapters that its agent has, by ``SHARED`` and ``OWN``.

    What the agent remembers is in ``memory``. Of an adapter that the agent keeps a factor of
    there is only its own.
    """
    whole = SharingTrainer(trainer, memory).completed(task)
    if whole.settings.get("trained", "both") != whole.settings.get("sent", "both"):
        return {OWN: whole}
    own = PersonalisingTrainer(trainer, memory).own(whole)
    return {SHARED: whole} | ({} if own is None else {OWN: with_own(whole, own)})


def write_own(place: Path, task: Task, name: str, published: Published) -> None:
    """One PEFT folder, at the sum of the ranks where something is beside the adapter."""
    residuals = [task.vectors["residual"]] if "residual" in task.vectors else []
    adapter = grown(Adapter(task.layout, task.vectors["adapter"]), residuals)
    modules = {pair.module for pair in adapter.layout.pairs}
    config = at_rank(published.config, rank_of(adapter.layout))
    targets = [name for name in config["target_modules"] if name.rpartition(".")[2] in modules]
    what = asked_personal(task.settings).method if name == OWN else SHARED
    card = own_card(task.agent, what, published.source, str(place), published.seed)
    write_peft_folder(place, adapter, config | {"target_modules": targets}, card)


class PublishingTrainer:
    """A trainer of an agent elsewhere, which leaves it folders of its adapters after every round.

    They are in ``home/adapters``, run by run: ``adapter``, which all share, and ``personal`` where
    the agent has one of its own. What it remembers is in ``home/memory``, run by run too.
    """

    def __init__(self, trainer: Trainer, home: Path, published: Published) -> None:
        self.trainer = trainer
        self.home = home
        self.published = published

    def fit(self, tasks: Sequence[Task]) -> Iterator[Sequence[Update]]:
        """The trainer's updates."""
        return self.trainer.fit(tasks)

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics of an adapter, after which the folders hold it."""
        update, run = self.trainer.evaluate(task), folder_name(task.run)
        if task.round:
            for name, each in adapters_of(task, self.trainer, self.home / "memory" / run).items():
                write_own(self.home / "adapters" / run / name, each, name, self.published)
        return update
