"""Weighted average of n adapters: this library, torch, Flower and NVFlare, on the same bytes.

    python benchmarks/average.py --flower-python PATH --nvflare-python PATH

PATH is the interpreter of an environment of its own (README.md); without it that peer is left out.
In turn; every output is checked before it is timed. Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from average_limits import FIRST_TOUCH, PAGES_BYTES, READ_ONCE, first_touch, limits
from average_works import OURS, WITH_ADAM, WITH_STEP, Contender, coded, contenders
from peer_process import PeerProcess
from rows import Rows, cohort, error, exact, faults, in_turn, machine, seconds, spread

Timer = Callable[[], float]

TOLERANCE = 0.1
"""Relative error above which a contender is not the average at all; the table shows the error."""

PEER_TYPES = {"flower": ("float32",), "nvflare": ("float32", "bfloat16")}
"""Flower's arrays are NumPy's, which has no bfloat16."""


def peers_of(
    sizes: tuple[int, int, int], kind: str, settings: argparse.Namespace
) -> list[PeerProcess]:
    """The peers whose interpreters were given and who know the type."""
    pythons = {"flower": settings.flower_python, "nvflare": settings.nvflare_python}
    peers = [
        PeerProcess(python, f"{name}_peer.py", *sizes, kind)
        for name, python in pythons.items()
        if python and kind in PEER_TYPES[name]
    ]
    for peer in peers:
        assert max(peer.errors.values()) < TOLERANCE, peer.errors
    return peers


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
    peers = peers_of((agents, values, threads), kind, settings)
    for peer in peers:
        errors, touched = errors | peer.errors, touched | peer.hello["faults"]
        timers |= {name: partial(peer.seconds, name) for name in peer.errors}
    for name, work in limits(rows, threads).items():
        timers[name] = partial(seconds, work, threads)
    touched[FIRST_TOUCH] = faults(first_touch)
    times = in_turn(timers, settings.repeats)
    for peer in peers:
        peer.close()
    title = f"{agents} x {values / 1e6:g}M {kind}, {threads} thread{'s' * (threads > 1)}"
    extra, inputs = {WITH_STEP: 4 * values, WITH_ADAM: 12 * values}, sum(r.nbytes for r in rows)
    read = {name: inputs + extra.get(name, 0) for name in times} | {FIRST_TOUCH: PAGES_BYTES}
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
