"""The agents of a round that is timed: models, rows, tasks, and who answers them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from llmagentos.adapter import initial_vector
from llmagentos.corpus import Row, Silo
from llmagentos.layout import Vector
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.models import Base, load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update
from llmagentos.settings import LocalSettings, LoraSettings, ModelSettings

TOKENS = 64
"""In every row; all but the first are learnt."""


@dataclass(frozen=True)
class Size:
    """How much work a round is."""

    agents: int
    steps: int
    batch: int
    rank: int = 16
    targets: tuple[str, ...] = ("all-linear",)

    def __str__(self) -> str:
        return f"{self.agents} agents x {self.steps} steps x {self.batch} x {TOKENS}"


def tiny() -> Base:
    """A random Llama of 7.8 million weights."""
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=832,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    return _bare(LlamaForCausalLM(config))


def smollm2() -> Base:
    """SmolLM2-135M-Instruct in float32."""
    return load_base(ModelSettings(device="cpu", dtype="float32"), seed=0)


def loaded(folder: Path) -> Base:
    """A base that was written with ``save_pretrained``."""
    return _bare(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def _bare(model: Any) -> Base:
    """A model without a tokenizer."""
    return Base(model.requires_grad_(False).eval(), None, "", None, None, "")  # type: ignore[arg-type]


MODELS = {"tiny": (tiny, Size(8, 4, 2)), "smollm2": (smollm2, Size(4, 2, 1))}
"""What a model is made by, and the round that it is timed with."""


def silos(agents: int, vocabulary: int) -> dict[str, Silo]:
    """Sixteen random rows for every agent."""
    rng, learn = np.random.default_rng(0), np.arange(TOKENS) > 0
    made = {}
    for number in range(agents):
        ids = rng.integers(3, vocabulary, (16, TOKENS)).astype(np.int32)
        rows = tuple(Row(each, learn.copy()) for each in ids)
        made[f"agent{number:03}"] = Silo(f"agent{number:03}", rows, rows[:1], sample=None)  # type: ignore[arg-type]
    return made


def with_adapter(base: Base, size: Size) -> PeftModel:
    """The model with the first adapter of a round."""
    lora = LoraSettings(rank=size.rank, target_modules=list(size.targets))
    return attach(base, lora, seed=0)


class Agents:
    """All agents on one model, and the rounds that they are asked for."""

    def __init__(self, model: PeftModel, size: Size, **local: Any) -> None:
        layout, accelerator = layout_of(model), accelerator_for("no", model.device)
        known = silos(size.agents, model.config.vocab_size)
        self.layout, self.size = layout, size
        self.local = LocalSettings(steps=size.steps, batch=size.batch, **local)
        self.single = LoraTrainer(model, layout, known, accelerator=accelerator)
        self.first = initial_vector(layout, 0)

    def tasks(self, round_: int = 1, adapter: Vector | None = None, **local: Any) -> list[Task]:
        """What every agent is asked in a round."""
        told = {**asdict(replace(self.local, **local)), "horizon": 1}
        vectors = {"adapter": self.first if adapter is None else adapter}
        return [
            Task("run", round_, "fit", name, vectors, self.layout, 0, settings=told)
            for name in self.single.silos
        ]

    def rows(self, rounds: int) -> np.ndarray:
        """The tokens that they train on, ``(agents, rounds, steps, batch, tokens)`` int32."""
        found = [[self._of(task) for task in self.tasks(r + 1)] for r in range(rounds)]
        return np.array(found).swapaxes(0, 1)

    def _of(self, task: Task) -> list[list[np.ndarray]]:
        steps = self.single.assigned(task).steps()
        return [[row.ids for row in step.passes[0]] for step in steps]

    def one_by_one(self, tasks: Sequence[Task]) -> list[Update]:
        """The updates of the tasks, one after the other."""
        return list(chain.from_iterable(self.single.fit(tasks)))

    def side_by_side(self, tasks: Sequence[Task], group: int | None = None) -> list[Update]:
        """The updates of the tasks, a group at a time; all of them unless given."""
        cohort = CohortTrainer(self.single, group or len(tasks))
        return list(chain.from_iterable(cohort.fit(tasks)))
