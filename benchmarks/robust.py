"""Order statistics, distances, clipping and ring sums: this library, NumPy, torch and Flower.

    python benchmarks/robust.py --flower-python PATH

PATH is the interpreter of an environment of its own with `pip install flwr numpy`; without it
Flower is left out. One thread, processor time, in turn, on the same bytes, every output checked
first; times are in units of this library's weighted sum of the same rows. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from peer_process import PeerProcess
from robust_questions import OURS, off, questions
from rows import cohort, in_turn, machine, seconds, spread

from llmagentos import kernels

UNIT = "weighted sum"


def measure(agents: int, settings: argparse.Namespace) -> tuple[list[str], str]:
    """The lines of one cohort, and Flower's version where it ran."""
    rows, _ = cohort(agents, settings.values)
    out = np.empty(settings.values, np.float32)
    average = partial(kernels.weighted_sum, rows, [1 / agents] * agents, out=out, threads=1)
    python = settings.flower_python
    flower = (
        PeerProcess(python, "flower_robust_peer.py", agents, settings.values) if python else None
    )
    lines = []
    for question in questions(rows):
        errors = {name: off(question, work()) for name, work in question.works.items()}
        assert max(errors.values()) < question.tolerance, (question.name, errors)
        timers = {name: partial(seconds, work, 1) for name, work in question.works.items()}
        if flower:
            theirs = flower.errors.get(question.name, {})
            errors |= theirs
            timers |= {name: partial(flower.seconds, f"{question.name}/{name}") for name in theirs}
        lines += table(f"{question.name}, n = {agents}", timers, errors, average, settings.repeats)
        print(*lines[-len(timers) :], sep="\n", file=sys.stderr)
    if flower:
        flower.close()
    return lines, flower.version if flower else ""


def table(
    title: str,
    timers: dict[str, Callable[[], float]],
    errors: dict[str, float],
    average: Callable[[], object],
    repeats: int,
) -> list[str]:
    """One line per contender; ratios are of medians."""
    times = in_turn(timers | {UNIT: partial(seconds, average, 1)}, repeats)
    unit, best = median(times.pop(UNIT)), median(times[OURS])
    return [
        f"| {title} | {name} | {spread(taken)} | {median(taken) / unit:.2f} | "
        f"{median(taken) / best:.1f} | {errors[name]:.0e} |"
        for name, taken in times.items()
    ]


def main() -> None:
    """Prints the table, machine and versions first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 32, 100])
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flower-python", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[str] = []
    versions = {"torch": torch.__version__}
    for agents in settings.agents:
        more, flower = measure(agents, settings)
        lines += more
        versions |= {"Flower": flower} if flower else {}
    print(machine(settings.values, **versions), end="\n\n")
    print("| work | contender | ms: median (min to max) | weighted sums | times ours | error |")
    print("|---|---|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
