"""The resident memory of a group, measured in a process of its own."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from llmagentos.corpus import Row, Silo
from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import layout_of
from llmagentos.lm.memory import PER_VALUE, demand_of, pass_bytes
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.settings import CorpusSettings, LocalSettings, RunSettings
from tests.lm_world import CPU, fit_task, tiny_peft

PROC = Path("/proc/self")
AGENTS, ROWS, TOKENS = 256, 1, 64


def resident(line):
    """Bytes of this process: ``VmRSS`` at the moment, ``VmHWM`` at most."""
    lines = (PROC / "status").read_text().splitlines()
    return 1024 * next(int(each.split()[1]) for each in lines if each.startswith(line))


def group_of_agents():
    """What a group took, what the rule says, and what is kept in adapters and passes alone."""
    torch.set_num_threads(1)
    keep_freed_memory()
    row = Row(np.arange(TOKENS, dtype=np.int32), np.arange(TOKENS) > 0)
    names = [f"agent{number}" for number in range(AGENTS)]
    silos = {name: Silo(name, (row,) * ROWS, (row,), sample=None) for name in names}
    model = tiny_peft(rank=8, target_modules=["all-linear"])
    layout = layout_of(model)
    single = LoraTrainer(model, layout, silos, accelerator=accelerator_for("no", CPU))
    asked = RunSettings(local=LocalSettings(batch=ROWS), corpus=CorpusSettings(max_tokens=TOKENS))
    demand, kept = demand_of(single.bench, asked), pass_bytes(single.bench, ROWS, TOKENS)
    tasks = [fit_task(layout, name, steps=2, batch=ROWS) for name in names]
    single.update(tasks[0])
    before = resident("VmRSS")
    (PROC / "clear_refs").write_text("5")
    list(CohortTrainer(single, AGENTS).fit(tasks))
    taken = resident("VmHWM") - before
    return taken, demand.of(AGENTS), AGENTS * (PER_VALUE * layout.size + kept)


@pytest.mark.skipif(not (PROC / "clear_refs").exists(), reason="a peak is told by Linux only")
def test_a_group_takes_what_the_rule_says_at_most():
    """It takes more than its live tensors, which is what makes the rule's other terms necessary."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        taken, told, live = process.apply(group_of_agents)
    assert live < taken <= told < 1.5 * taken
