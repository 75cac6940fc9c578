"""The training of one round: agents one by one beside agents side by side, on the same work.

    python benchmarks/round.py [--model tiny | smollm2] [--threads 1] [--repeats 5]

In turn, on one frozen model; the updates are compared before anything is timed. Prints a Markdown
table. On one thread processor time is counted, on more threads wall time.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from statistics import median

import numpy as np
import torch
from rows import machine, seconds, spread
from transformers import LlamaConfig, LlamaForCausalLM

from llmagentos.adapter import initial_vector
from llmagentos.corpus import Row, Silo
from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.models import Base, load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update
from llmagentos.settings import LocalSettings, LoraSettings, ModelSettings

Work = Callable[[], list[Update]]


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
    model = LlamaForCausalLM(config).requires_grad_(False).eval()
    return Base(model, None, "tiny", None, None, "")  # type: ignore[arg-type]


def smollm2() -> Base:
    """SmolLM2-135M-Instruct in float32."""
    return load_base(ModelSettings(device="cpu", dtype="float32"), seed=0)


MODELS = {"tiny": (tiny, (8, 4, 2)), "smollm2": (smollm2, (4, 2, 1))}
"""What a model is made by, and the agents, steps and rows of a step that it is timed with."""

TOKENS = 64
"""In every row; all but the first are learnt."""


def silos(agents: int, vocabulary: int) -> dict[str, Silo]:
    """Sixteen random rows for every agent."""
    rng, learn = np.random.default_rng(0), np.arange(TOKENS) > 0
    made = {}
    for number in range(agents):
        ids = rng.integers(3, vocabulary, (16, TOKENS)).astype(np.int32)
        rows = tuple(Row(each, learn.copy()) for each in ids)
        made[f"agent{number}"] = Silo(f"agent{number}", rows, rows[:1], sample=None)  # type: ignore[arg-type]
    return made


def contenders(base: Base, cohort: tuple[int, int, int], group: int) -> dict[str, Work]:
    """The same tasks, answered one by one and side by side."""
    agents, steps, batch = cohort
    lora = LoraSettings(rank=16, target_modules=["all-linear"])
    model = attach(base, lora, seed=0)
    layout, accelerator = layout_of(model), accelerator_for("no", model.device)
    known = silos(agents, model.config.vocab_size)
    single = LoraTrainer(model, layout, known, accelerator=accelerator)
    told = {**asdict(LocalSettings(steps=steps, batch=batch)), "horizon": 1}
    adapter = {"adapter": initial_vector(layout, 0)}
    tasks = [Task("run", 1, "fit", name, adapter, layout, 0, settings=told) for name in known]
    side_by_side = CohortTrainer(single, group)
    return {
        "one by one": lambda: [update for each in single.fit(tasks) for update in each],
        "side by side": lambda: [update for each in side_by_side.fit(tasks) for update in each],
    }


def distance(ours: list[Update], theirs: list[Update]) -> float:
    """The largest distance of two updates of an agent, relative to their length."""
    pairs = [(a.vectors["delta"], b.vectors["delta"]) for a, b in zip(ours, theirs, strict=True)]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def main() -> None:
    """Time them in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--agents", type=int, help="Agents in the round.")
    parser.add_argument("--batch", type=int, help="Rows of 64 tokens in a step.")
    parser.add_argument("--group", type=int, help="Agents side by side; all unless given.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    make, (agents, steps, batch) = MODELS[asked.model]
    cohort = asked.agents or agents, steps, asked.batch or batch
    works = contenders(make(), cohort, asked.group or cohort[0])
    one, side = (work() for work in works.values())
    apart = distance(side, one)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(asked.repeats):
        for name, work in works.items():
            times[name].append(seconds(work, asked.threads))
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    print(machine(one[0].vectors["delta"].size, torch=torch.__version__))
    told = f"{asked.model}, {cohort[0]} agents x {cohort[1]} steps x {cohort[2]} x {TOKENS}"
    print("\n| round | threads | one by one, ms | side by side, ms | times faster | apart |")
    print("|---|---|---|---|---|---|")
    cells = [told, str(asked.threads), *map(spread, times.values())]
    cells += [f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{apart:.0e}"]
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
