"""Seconds and bytes of a round in process, over each engine, and over plain Flower.

    python benchmarks/engines.py [--model tiny | smollm2] [--values N ...] [--runs 1]

Four agents. With a model they train it for a step or a few; without one they answer at once, with
random numbers, so that what is left is carriage and averaging. A contender is a process of its own
with its processes; all contenders take turns. Steady rounds are all but the first. What goes
between SuperLink and SuperNodes goes through a relay that counts it, TLS included. Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from contenders import Found
from rows import PIECES, machine
from wire import NAMED, Work

CONTENDER = str(Path(__file__).parent / "contenders.py")
NAMES = {
    "in_process": "in process",
    "processes": "processes",
    "ray": "Ray",
    "flower": "Flower, this library",
    "plain": "plain Flower, tensor by tensor",
    "plain_one": "plain Flower, all in one array",
}


def contend(name: str, work: Work, adapter: Path) -> Found:
    """What a contender finds in a process of its own."""
    command = [sys.executable, CONTENDER, name, work.to_json(), str(adapter)]
    settings = {**os.environ, NAMED: work.to_json(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-4000:]}")
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def apart(folder: Path, name: str) -> str:
    """How far a contender's final adapter is from that in process, as a share of the change."""
    start, there, final = (
        np.load(folder / f"{each}.npy") for each in ("start", "in_process", name)
    )
    distance = float(np.linalg.norm(final - there) / np.linalg.norm(there - start))
    return f"{distance:.0e}" if distance else "0"


def compare(work: Work, runs: int, label: str, names: list[str]) -> Iterator[str]:
    """The rows of a table, each when its contender is through; the first is in process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ran: dict[str, list[Found]] = {name: [] for name in ("in_process", *names)}
        np.save(folder / "start.npy", work.hands().first_state().adapter.vector)
        for turn in range(runs):
            for name, found in ran.items():
                found.append(contend(name, work, folder / f"{name}.npy"))
                if turn == runs - 1:
                    cells = [label, NAMES[name], *measured(found, ran["in_process"])]
                    yield f"| {' | '.join([*cells, apart(folder, name)])} |"


def measured(runs: list[Found], there: list[Found]) -> list[str]:
    """Seconds, those over the median in process, and bytes, also in sizes of what they carry."""
    steady = [seconds for each in runs for seconds in each.steady]
    least = median(seconds for each in there for seconds in each.steady)
    carried, ledger = runs[0].carried, there[0].ledger
    told = [f"{count / 1e6:.3f}" for count in carried] if carried else ["", ""]
    times = f"{sum(carried) / sum(ledger):.2f}" if carried else ""
    spread = f"{median(steady):.2f} ({min(steady):.2f} to {max(steady):.2f})"
    return [spread, f"{median(steady) - least:+.2f}", *told, times]


HEAD = (
    "| round | carried by | s a steady round | over in process | MB up | MB down | times the "
    "vectors | apart |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Let them take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["tiny", "smollm2"])
    parser.add_argument("--steps", type=int, default=1, help="Of training, in a round.")
    parser.add_argument("--values", type=int, nargs="*", default=[], help="Without training.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=1, help="Of every contender.")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=list(NAMES)[:5])
    asked = parser.parse_args()
    versions = {package: version(package) for package in ("flwr", "ray", "torch")}
    print(machine(0, **versions).replace(" 0 values in a vector;", ""), end=f"\n\n{HEAD}\n")
    works = []
    if asked.model:
        plural = "" if asked.steps == 1 else "s"
        label = f"{asked.model}, 4 agents x {asked.steps} step{plural}"
        works.append((label, Work(asked.rounds, asked.model, asked.steps)))
    for values in asked.values:
        work = Work(asked.rounds, values=values - values % PIECES)
        works.append((f"{4 * values / 1e6:.2f} MB, no training", work))
    for label, work in works:
        for row in compare(work, asked.runs, label, asked.names):
            print(row, flush=True)


if __name__ == "__main__":
    main()
