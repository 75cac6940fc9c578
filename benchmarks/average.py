"""Weighted average of n adapters: this library, torch and Flower, in turn, on the same bytes.

    python benchmarks/average.py --flower-python PATH

PATH is the interpreter of an environment of its own with `pip install flwr numpy`; without it
Flower is left out. Every output is checked before it is timed. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import ml_dtypes
import numpy as np
import torch
from rows import PIECES, Rows, cohort, error, exact, machine, seconds, spread

from llmagentos import kernels
from llmagentos.kernels import reference
from llmagentos.kernels.twin import compiled

Work = Callable[[], object]
Timer = Callable[[], float]

OURS = "this library"
WITH_STEP = "this library, with the step"
READ_ONCE = "read once"

TOLERANCE = 0.1
"""Relative error above which a contender is not the average at all; the table shows the error."""


@dataclass(frozen=True)
class Contender:
    """The work that is timed, and how its result reads as a NumPy vector, which is not."""

    work: Work
    result: Callable[[], np.ndarray]


def ours(rows: Rows, weights: list[float], threads: int) -> dict[str, Contender]:
    """The widest instruction set and, on one thread, the others; sums, norms and finiteness."""
    out = np.empty(rows[0].size, np.float32)

    def contender(kernels: Any) -> Contender:
        return Contender(lambda: kernels.weighted_sum(out, rows, weights, threads), lambda: out)

    *others, widest = compiled().values()
    rest = {f"this library, {each.name}": contender(each) for each in reversed(others)}
    return {OURS: contender(widest)} | (rest if threads == 1 else {})


def with_step(rows: Rows, weights: list[float], threads: int) -> Contender:
    """The server's step in the same pass: from a zero anchor it ends at the average."""
    anchor, out = np.zeros((2, rows[0].size), np.float32)
    return Contender(
        lambda: kernels.average_step(anchor, rows, weights, out=out, threads=threads), lambda: out
    )


def plain(rows: Rows, weights: list[float]) -> Contender:
    """The reference in NumPy, norms and all: what the extension replaces."""
    out = np.empty(rows[0].size, np.float32)
    return Contender(lambda: reference.weighted_sum(out, rows, weights), lambda: out)


def foreach(rows: list[torch.Tensor], weights: list[float]) -> Contender:
    """One fused call of torch per agent over the tensors of its adapter."""
    agents = [list(row.tensor_split(PIECES)) for row in rows]
    out = torch.empty_like(rows[0])
    total = list(out.tensor_split(PIECES))

    def work() -> None:
        torch._foreach_zero_(total)
        for tensors, weight in zip(agents, weights, strict=True):
            torch._foreach_add_(total, tensors, alpha=weight)

    return Contender(work, lambda: out.float().numpy())


def mv(rows: list[torch.Tensor], weights: list[float]) -> Contender:
    """Matrix times vector in torch, on rows that were stacked beforehand."""
    stacked = torch.stack(rows).t()
    factors = torch.tensor(weights, dtype=rows[0].dtype)
    out = torch.empty_like(rows[0])
    return Contender(lambda: torch.mv(stacked, factors, out=out), lambda: out.float().numpy())


def read_once(rows: Rows, threads: int) -> Work:
    """Every input byte read once: the limit that memory sets."""

    def read(row: np.ndarray) -> object:
        return np.bitwise_xor.reduce(row.view(np.uint64))

    if threads == 1:
        return lambda: [read(row) for row in rows]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(read, rows))


class Flower:
    """The peer process; it times itself."""

    def __init__(self, python: Path, agents: int, values: int, threads: int) -> None:
        script = Path(__file__).with_name("flower_peer.py")
        command = [str(python), str(script), str(agents), str(values), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        hello = json.loads(self._line())
        self.version: str = hello["version"]
        self.errors: dict[str, float] = hello["errors"]
        assert max(self.errors.values()) < TOLERANCE, self.errors

    def _line(self) -> str:
        return self._process.stdout.readline()

    def seconds(self, name: str) -> float:
        """One run of the named contender."""
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def contenders(rows: Rows, weights: list[float], threads: int) -> dict[str, Contender]:
    """Name to contender, over the same bytes."""
    tensors = [tensor(row) for row in rows]
    works = ours(rows, weights, threads) | {WITH_STEP: with_step(rows, weights, threads)}
    if rows[0].dtype != np.float16:
        works |= {"torch `_foreach_add_`": foreach(tensors, weights)}
        works |= {"torch `mv`, stacked": mv(tensors, weights)}
    return works | ({"plain NumPy twin": plain(rows, weights)} if threads == 1 else {})


def tensor(row: np.ndarray) -> torch.Tensor:
    """The row as a tensor over the same memory."""
    if row.dtype != ml_dtypes.bfloat16:
        return torch.from_numpy(row)
    return torch.from_numpy(row.view(np.int16)).view(torch.bfloat16)


def table(
    agents: int, kind: str, threads: int, settings: argparse.Namespace
) -> tuple[list[str], str]:
    """The lines of one cohort, and Flower's version where it ran."""
    wide, examples = cohort(agents, settings.values)
    rows = [row.astype(getattr(ml_dtypes, kind, kind)) for row in wide]
    weights = [count / sum(examples) for count in examples]
    works = contenders(rows, weights, threads)
    timers: dict[str, Timer] = {
        name: partial(seconds, each.work, threads) for name, each in works.items()
    }
    errors = checked(works, rows, examples)
    flower = None
    if settings.flower_python and kind == "float32":
        flower = Flower(settings.flower_python, agents, settings.values, threads)
        errors |= flower.errors
        timers |= {name: partial(flower.seconds, name) for name in flower.errors}
    timers[READ_ONCE] = partial(seconds, read_once(rows, threads), threads)
    times = interleave(timers, settings.repeats)
    if flower:
        flower.close()
    title = f"{agents} x {kind}, {threads} thread{'s' * (threads > 1)}"
    read = [sum(row.nbytes for row in rows), 4 * settings.values]
    return format_table(title, times, errors, read), flower.version if flower else ""


def checked(
    works: dict[str, Contender], rows: list[np.ndarray], examples: list[int]
) -> dict[str, float]:
    """Name to relative error; none may be far from the weighted mean of the rows as they are."""
    truth = exact(rows, examples)
    errors = {}
    for name, each in works.items():
        each.work()
        errors[name] = error(each.result(), truth)
    wrong = {name: off for name, off in errors.items() if not off < TOLERANCE}
    assert not wrong, f"not the weighted mean, relative error: {wrong}"
    return errors


def interleave(timers: dict[str, Timer], repeats: int) -> dict[str, list[float]]:
    """Every timer once, then every timer again: a slow minute slows them all."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(repeats):
        for name, timer in timers.items():
            times[name].append(timer())
    return times


def format_table(
    title: str, times: dict[str, list[float]], errors: dict[str, float], row_bytes: list[int]
) -> list[str]:
    """One Markdown line per contender; ratios are of medians, bytes those that must be read."""
    rows, anchor = row_bytes
    best, limit = median(times[OURS]), rows / median(times[READ_ONCE])
    lines = []
    for name, taken in times.items():
        speed = (rows + anchor * (name == WITH_STEP)) / median(taken)
        off = f"{errors[name]:.0e}" if name in errors else ""
        lines.append(
            f"| {title} | {name} | {spread(taken)} | {speed / 1e9:.1f} | {speed / limit:.0%} | "
            f"{median(taken) / best:.2f} | {off} |"
        )
    return lines


def arguments() -> argparse.Namespace:
    """What to average, how often, against whom."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[4, 10, 32])
    parser.add_argument("--values", type=int, default=8_000_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--flower-python", type=Path)
    return parser.parse_args()


def main() -> None:
    """Prints the table, machine and versions first."""
    settings = arguments()
    lines: list[str] = []
    versions = {"torch": torch.__version__}
    for threads in settings.threads:
        torch.set_num_threads(threads)
        for kind in settings.types:
            for agents in settings.agents:
                more, flower = table(agents, kind, threads, settings)
                lines += more
                versions |= {"Flower": flower} if flower else {}
                print(more[0], file=sys.stderr)
    print(machine(settings.values, **versions), end="\n\n")
    print("| cohort | contender | ms: median (min to max) | GB/s | of limit | times ours | error |")
    print("|---|---|---|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    main()
