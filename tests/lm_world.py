"""A tiny model and invented silos, for the tests of training and evaluation."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel

from llmagentos.corpus import Row, Silo
from llmagentos.layout import Layout, Vector
from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.models import load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task
from llmagentos.settings import LocalSettings, LoraSettings, ModelSettings

CPU = torch.device("cpu")


def tiny_peft(**lora: Any) -> PeftModel:
    base = load_base(ModelSettings(source="tiny", device="cpu"), seed=0)
    return attach(base, LoraSettings(**{"rank": 4, **lora}), seed=0)


def rows(count: int, seed: int) -> tuple[Row, ...]:
    """Rows of 6 to 20 tokens in which token x is followed by x + seed; half of each is learnt."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(rng.integers(6, 21))
        ids = (rng.integers(3, 200) + (1 + seed) * np.arange(length)) % 250
        made.append(Row(ids.astype(np.int32), np.arange(length) >= length // 2))
    return tuple(made)


def silo(name: str, seed: int, train: int = 13) -> Silo:
    return Silo(name, rows(train, seed), rows(9, seed + 100), sample=None)  # type: ignore[arg-type]


SILOS = {"north": silo("north", 1), "south": silo("south", 2, train=7)}


def trainer(accelerator: Accelerator | None = None, **lora: Any) -> LoraTrainer:
    model = tiny_peft(**lora)
    accelerator = accelerator or accelerator_for("no", CPU)
    return LoraTrainer(model, layout_of(model), SILOS, accelerator=accelerator)


def start_of(layout: Layout) -> Vector:
    """An adapter with all values drawn, so that A and B both get gradients."""
    return np.random.default_rng(5).normal(0, 0.05, layout.size).astype(np.float32)


def fit_task(
    layout: Layout,
    agent: str = "north",
    round_: int = 1,
    adapter: Vector | None = None,
    **local: Any,
) -> Task:
    settings = LocalSettings(**{"steps": 3, "batch": 4, "lr": 1e-2, **local})
    extra = {"horizon": 4, "weighting": "examples"}
    vectors = {"adapter": start_of(layout) if adapter is None else adapter}
    told = {**asdict(settings), **extra}
    return Task("run", round_, "fit", agent, vectors, layout, seed=3, settings=told)


def evaluate_task(layout: Layout, agent: str = "north", batch: int = 4, count: int = 9) -> Task:
    vectors, told = {"adapter": start_of(layout)}, {"rows": count, "batch": batch}
    return Task("run", 1, "evaluate", agent, vectors, layout, seed=3, settings=told)
