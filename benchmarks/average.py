"""Weighted average of n adapters: this library, torch, Flower and NVFlare, on the same bytes.

    python benchmarks/average.py --flower-python PATH --nvflare-python PATH

PATH is the interpreter of an environment of its own (README.md); without it that peer is left out.
In turn; every output is checked before it is timed. Prints a Markdown table.
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
from rows import PIECES, Rows, cohort, error, exact, faults, machine, seconds, spread

from llmagentos import kernels
from llmagentos.codecs import codec_of
from llmagentos.kernels import arrays, reference
from llmagentos.kernels.twin import compiled
from llmagentos.scaled import ScaledRow
from llmagentos.settings import CodecSettings

Work = Callable[[], object]
Timer = Callable[[], float]

OURS = "this library"
WITH_STEP = "this library, with the step"
WITH_ADAM = "this library, with FedAdam"
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
    out, taken = np.empty(len(rows[0]), np.float32), arrays.passed(rows)

    def contender(kernels: Any) -> Contender:
        return Contender(lambda: kernels.weighted_sum(out, taken, weights, threads), lambda: out)

    *others, widest = compiled().values()
    rest = {f"this library, {each.name}": contender(each) for each in reversed(others)}
    return {OURS: contender(widest)} | (rest if threads == 1 else {})


def with_step(rows: Rows, weights: list[float], threads: int) -> Contender:
    """The server's step in the same pass: from a zero anchor it ends at the average."""
    anchor, out = np.zeros((2, len(rows[0])), np.float32)
    return Contender(
        lambda: kernels.average_step(anchor, rows, weights, out=out, threads=threads), lambda: out
    )


def with_adam(rows: Rows, weights: list[float], threads: int) -> Contender:
    """FedAdam in the same pass; its first moment is the average where beta1 is 0."""
    before = kernels.Adaptive(*np.zeros((3, len(rows[0])), np.float32))
    after = kernels.Adaptive(*np.zeros((3, len(rows[0])), np.float32))
    step = partial(kernels.average_adaptive_step, "adam", before, rows, weights, threads=threads)
    return Contender(lambda: step(lr=0.1, beta2=0.99, tau=1e-3, out=after), lambda: after.m)


def plain(rows: Rows, weights: list[float]) -> Contender:
    """The reference in NumPy, norms and all: what the extension replaces."""
    out, taken = np.empty(len(rows[0]), np.float32), arrays.passed(rows)
    return Contender(lambda: reference.weighted_sum(out, taken, weights), lambda: out)


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


def loop(rows: list[torch.Tensor], weights: list[float]) -> Contender:
    """A sum over state dicts in Python, in the type that travels, as OpenFedLLM does."""
    agents = [dict(enumerate(row.tensor_split(PIECES))) for row in rows]
    total: dict[int, torch.Tensor] = {}

    def work() -> None:
        for name in agents[0]:
            total[name] = sum(a[name] * w for a, w in zip(agents, weights, strict=True))

    return Contender(work, lambda: torch.cat(list(total.values())).float().numpy())


def mv(rows: list[torch.Tensor], weights: list[float]) -> Contender:
    """Matrix times vector in torch, on rows that were stacked beforehand."""
    stacked = torch.stack(rows).t()
    factors = torch.tensor(weights, dtype=rows[0].dtype)
    out = torch.empty_like(rows[0])
    return Contender(lambda: torch.mv(stacked, factors, out=out), lambda: out.float().numpy())


def read_once(rows: Rows, threads: int) -> Work:
    """Every input byte read once: the limit that memory sets."""
    scaled = [row for row in rows if isinstance(row, ScaledRow)]
    parts = [part for row in scaled for part in (row.q, row.scale)] or rows
    words = [part.view(np.uint8)[: part.nbytes // 8 * 8].view(np.uint64) for part in parts]
    if threads == 1:
        return lambda: [np.bitwise_xor.reduce(each) for each in words]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.bitwise_xor.reduce, words))


class Peer:
    """A peer's process in its own environment; it times itself."""

    def __init__(self, python: Path, name: str, sizes: tuple[int, int, int]) -> None:
        script = Path(__file__).with_name(f"{name}_peer.py")
        command = [str(python), str(script), *map(str, sizes)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        hello = json.loads(self._line())
        self.version: str = hello["version"]
        self.errors: dict[str, float] = hello["errors"]
        self.faults: dict[str, int] = hello["faults"]
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
    works = ours(rows, weights, threads) | {WITH_STEP: with_step(rows, weights, threads)}
    works |= {WITH_ADAM: with_adam(rows, weights, threads)}
    if not isinstance(rows[0], ScaledRow) and rows[0].dtype != np.float16:
        tensors = [tensor(row) for row in rows]
        works |= {"torch `_foreach_add_`": foreach(tensors, weights)}
        works |= {"torch `mv`, stacked": mv(tensors, weights)}
        works |= {"loop over state dicts": loop(tensors, weights)}
    return works | ({"plain NumPy twin": plain(rows, weights)} if threads == 1 else {})


def tensor(row: np.ndarray) -> torch.Tensor:
    """The row as a tensor over the same memory."""
    if row.dtype != ml_dtypes.bfloat16:
        return torch.from_numpy(row)
    return torch.from_numpy(row.view(np.int16)).view(torch.bfloat16)


def coded(row: np.ndarray, kind: str) -> np.ndarray | ScaledRow:
    """The row in the type that travels."""
    if kind != "int8":
        return row.astype(getattr(ml_dtypes, kind, kind))
    codec = codec_of(CodecSettings(name="int8"))
    return codec.read(codec.encode(row, np.random.default_rng(0)), len(row))


def peers_of(sizes: tuple[int, int, int], settings: argparse.Namespace) -> list[Peer]:
    """The peers whose interpreters were given."""
    pythons = {"flower": settings.flower_python, "nvflare": settings.nvflare_python}
    return [Peer(python, name, sizes) for name, python in pythons.items() if python]


def table(
    agents: int, kind: str, threads: int, settings: argparse.Namespace
) -> tuple[list[str], list[str]]:
    """The lines of one cohort, and the versions of the peers that ran."""
    values = min(settings.values, settings.most // agents)
    wide, examples = cohort(agents, values)
    rows = [coded(row, kind) for row in wide]
    del wide
    weights = [count / sum(examples) for count in examples]
    works = contenders(rows, weights, threads)
    errors = checked(works, rows, examples)
    touched = {name: faults(each.work) for name, each in works.items()}
    timers: dict[str, Timer] = {
        name: partial(seconds, each.work, threads) for name, each in works.items()
    }
    peers = peers_of((agents, values, threads), settings) if kind == "float32" else []
    for peer in peers:
        errors, touched = errors | peer.errors, touched | peer.faults
        timers |= {name: partial(peer.seconds, name) for name in peer.errors}
    timers[READ_ONCE] = partial(seconds, read_once(rows, threads), threads)
    times = interleave(timers, settings.repeats)
    for peer in peers:
        peer.close()
    title = f"{agents} x {values / 1e6:g}M {kind}, {threads} thread{'s' * (threads > 1)}"
    extra = {WITH_STEP: 4 * values, WITH_ADAM: 12 * values}
    read = {name: sum(row.nbytes for row in rows) + extra.get(name, 0) for name in times}
    return format_table(title, times, errors | {"faults": touched}, read), [
        p.version for p in peers
    ]


def checked(works: dict[str, Contender], rows: Rows, examples: list[int]) -> dict[str, Any]:
    """Name to relative error; none may be far from the weighted mean of the rows as they are."""
    truth = exact([np.asarray(row) for row in rows], examples)
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
    title: str, times: dict[str, list[float]], found: dict[str, Any], read: dict[str, int]
) -> list[str]:
    """One Markdown line per contender; ratios are of medians, bytes those that must be read."""
    best, limit = median(times[OURS]), read[READ_ONCE] / median(times[READ_ONCE])
    lines = []
    for name, taken in times.items():
        speed = read[name] / median(taken)
        cells = [title, name, spread(taken), f"{speed / 1e9:.1f}", f"{speed / limit:.0%}"]
        cells += [f"{median(taken) / best:.2f}"]
        cells += [f"{found[name]:.0e}" if name in found else ""]
        cells += [f"{found['faults'].get(name, 0):,}" if name in found["faults"] else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def arguments() -> argparse.Namespace:
    """What to average, how often, against whom."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[4, 10, 32, 100])
    parser.add_argument("--values", type=int, default=8_000_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16", "float16", "int8"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--most", type=int, default=400_000_000, help="Values of all agents.")
    parser.add_argument("--flower-python", type=Path)
    parser.add_argument("--nvflare-python", type=Path)
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
                more, peers = table(agents, kind, threads, settings)
                lines += more
                versions |= dict(peer.split() for peer in peers)
                print(more[0], file=sys.stderr)
    print(machine(settings.values, **versions), end="\n\n")
    names = "cohort|contender|ms: median (min to max)|GB/s|of limit|times ours|error|page faults"
    print(f"| {names.replace('|', ' | ')} |")
    print("|---" * 8 + "|", *lines, sep="\n")


if __name__ == "__main__":
    main()
