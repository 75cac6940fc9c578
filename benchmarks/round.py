"""A round of training: agents side by side, one by one and, with peers, as others do it.

    python benchmarks/round.py [--model tiny | smollm2] [--threads 2] [--peers PYTHON]

The first table has both of our ways in turn on one frozen model, their updates compared before
they are timed. With ``--peers`` the second has whole processes, from start to end: Flower's
simulation over Ray, transformers' Trainer on a model that every client loads or that all share,
and our two ways. PYTHON is the interpreter of an environment with Flower (see README.md).
On one thread the first table counts processor time; all else is wall time.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from own_agents import MODELS, Agents, Size, with_adapter
from processes import Ran, run
from rows import machine, seconds, spread
from safetensors.numpy import load_file

from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.messages import Update

HERE = Path(__file__).parent
TELL = "{:.2f} ({:.2f} to {:.2f})"
LR = 1e-3
"""Of every contender; high enough to learn, low enough for rounding not to grow."""


def distance(ours: list[Update], theirs: list[Update]) -> float:
    """The largest distance of two updates of an agent, relative to its length."""
    pairs = [(a.vectors["delta"], b.vectors["delta"]) for a, b in zip(ours, theirs, strict=True)]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def in_turn(agents: Agents, group: int | None, threads: int, repeats: int) -> list[str]:
    """The row of a table: one by one and side by side, in milliseconds."""
    tasks, plain = agents.tasks(), agents.tasks(optimizer="sgd", lr=0.1)
    works = partial(agents.one_by_one, tasks), partial(agents.side_by_side, tasks, group)
    apart = distance(agents.side_by_side(plain, group), agents.one_by_one(plain))
    alone, together = (work() for work in works)
    timed = np.array([[seconds(work, threads) for work in works] for _ in range(repeats)])
    ratios = timed[:, 0] / timed[:, 1]
    told = TELL.format(median(ratios), ratios.min(), ratios.max())
    apart_adamw = distance(together, alone)
    return [*(spread(list(each)) for each in timed.T), told, f"{apart:.0e}", f"{apart_adamw:.0e}"]


def write(work: Path, agents: Agents, size: Size, rounds: int) -> None:
    """The base, the first adapter and the rows of every round, as all processes read them."""
    model = agents.single.bench.model
    agents.single.bench.flat.load(torch.tensor(agents.first))
    model.save_pretrained(work / "adapter", save_embedding_layers=False)
    model.unload().save_pretrained(work / "base")
    np.save(work / "rows.npy", agents.rows(rounds))
    (work / "work.json").write_text(json.dumps({**asdict(size), "lr": LR}))


def contenders(work: Path, peers: str, rounds: int, threads: int) -> dict[str, list[str]]:
    """A command for each contender."""
    trainer, own = str(HERE / "trainer_clients.py"), str(HERE / "own_rounds.py")
    flower = [peers, str(HERE / "flower_round.py"), str(work)]
    count, many = str(rounds), str(threads)
    return {
        "flower": [*flower, "flower", count, "1"],
        **({"flower2": [*flower, "flower2", count, many]} if threads > 1 else {}),
        "rebuilt": [peers, trainer, str(work), "rebuilt", count, many],
        "shared": [peers, trainer, str(work), "shared", count, many],
        "single": [sys.executable, own, str(work), "single", count, many],
        "cohort": [sys.executable, own, str(work), "cohort", count, many],
    }


NAMES = {
    "flower": "Flower over Ray, one client at a time: each loads model and Trainer",
    "flower2": "the same, a client on every core",
    "rebuilt": "model and Trainer for every agent, in one process",
    "shared": "Trainer for every agent, one model",
    "single": "this library, one by one",
    "cohort": "this library, side by side",
}


def table(ran: dict[str, list[Ran]], work: Path) -> list[str]:
    """Rows of the second table: seconds and gigabytes; changes compared with those one by one."""
    first = load_file(work / "adapter" / "adapter_model.safetensors")
    steady = {name: np.concatenate([each.steady for each in runs]) for name, runs in ran.items()}
    begun = {name: median(each.three_rounds for each in runs) for name, runs in ran.items()}
    ours = changed(first, work / "single.safetensors")
    rows = []
    for name, runs in ran.items():
        apart = np.linalg.norm(changed(first, work / f"{name}.safetensors") - ours)
        cells = [
            NAMES[name],
            TELL.format(median(steady[name]), steady[name].min(), steady[name].max()),
            f"{median(steady[name]) / median(steady['cohort']):.2f}",
            f"{begun[name]:.1f}",
            f"{begun[name] / begun['cohort']:.2f}",
            f"{median(each.peak_bytes for each in runs) / 1e9:.1f}",
            f"{runs[0].losses[-1]:.4f}",
            f"{apart / np.linalg.norm(ours):.0e}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, "", gap({name: float(median(times)) for name, times in steady.items()})]


def changed(first: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """How the global adapter moved in all rounds, ``(d,)``."""
    after = load_file(path)
    return np.concatenate([(after[name] - first[name]).ravel() for name in sorted(first)])


def gap(steady: dict[str, float]) -> str:
    """What the distance to ours is made of, from Flower's round with one client at a time."""
    steps = {
        "Flower, Ray and their processes": steady["flower"] - steady["rebuilt"],
        "loading the model for every agent": steady["rebuilt"] - steady["shared"],
        "transformers' Trainer": steady["shared"] - steady["single"],
        "one by one instead of side by side": steady["single"] - steady["cohort"],
    }
    whole = steady["flower"] - steady["cohort"]
    shares = ", ".join(f"{name} {part / whole:.0%}" for name, part in steps.items())
    between = "between Flower's steady round, one client at a time, and ours"
    return f"Of the {whole:.2f} s {between}: {shares}."


def main() -> None:
    """Time them in turn and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--agents", type=int, help="Agents in the round.")
    parser.add_argument("--batch", type=int, help="Rows of 64 tokens in a step.")
    parser.add_argument("--group", type=int, help="Agents side by side; all unless given.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", help="Interpreter of an environment with Flower.")
    parser.add_argument("--rounds", type=int, default=5, help="Of every process; 4 and more.")
    parser.add_argument("--runs", type=int, default=1, help="Of every process.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    make, usual = MODELS[asked.model]
    size = Size(asked.agents or usual.agents, usual.steps, asked.batch or usual.batch)
    agents = Agents(with_adapter(make(), size), size, lr=LR)
    print(machine(agents.layout.size, torch=torch.__version__))
    told = f"{asked.model}, {size}"
    print("\n| round | threads | one by one, ms | side by side, ms | times faster ", end="")
    print("| apart, SGD | apart, AdamW |\n|---|---|---|---|---|---|---|")
    cells = [told, str(asked.threads), *in_turn(agents, asked.group, asked.threads, asked.repeats)]
    print(f"| {' | '.join(cells)} |", flush=True)
    if not asked.peers:
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write(work, agents, size, asked.rounds)
        del agents
        commands = contenders(work, asked.peers, asked.rounds, asked.threads)
        ran: dict[str, list[Ran]] = {name: [] for name in commands}
        for _ in range(asked.runs):
            for name, command in commands.items():
                each = 1 if name == "flower2" else asked.threads
                ran[name].append(run(command, each))
        print(f"\n| {told}, {asked.threads} threads | s a steady round | times ours ", end="")
        print("| s for three rounds with start-up | times ours | peak GB | loss | apart |")
        print("|---|---|---|---|---|---|---|---|")
        print("\n".join(table(ran, work)))


if __name__ == "__main__":
    main()
