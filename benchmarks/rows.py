"""The same rows, weights and clock in every process of a benchmark; needs NumPy alone."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECES = 448
"""Tensors of a Llama-like adapter: 32 layers, 7 matrices, A and B."""

FEW = 12
"""Rows whose distances are computed exactly."""

Rows = list[NDArray[Any]]


def cohort(agents: int, values: int) -> tuple[Rows, list[int]]:
    """Small deltas, ``(values,)`` float32 each, and a number of examples for every agent."""
    rng = np.random.default_rng(agents)
    rows = [rng.standard_normal(values, np.float32) * np.float32(1e-3) for _ in range(agents)]
    return rows, [int(count) for count in rng.integers(100, 1000, agents)]


def exact(rows: Rows, examples: list[int]) -> NDArray[np.float64]:
    """The weighted mean in float64."""
    total = sum(examples)
    mean = np.zeros(rows[0].size)
    for row, count in zip(rows, examples, strict=True):
        mean += (count / total) * row.astype(np.float64)
    return mean


def error(found: NDArray[np.generic], truth: NDArray[np.float64]) -> float:
    """Euclidean distance from the truth, relative to its length."""
    return float(np.linalg.norm(found.astype(np.float64) - truth) / np.linalg.norm(truth))


def exact_distances(rows: Rows) -> NDArray[np.float64]:
    """Squared distances of the first rows in pairs, from float64 differences."""
    wide = [row.astype(np.float64) for row in rows[:FEW]]
    return np.array([np.square(a - b).sum() for a in wide for b in wide])


def few_pairs(matrix: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The part of an ``(n, n)`` matrix that ``exact_distances`` knows."""
    return np.asarray(matrix).reshape(n, n)[:FEW, :FEW].reshape(-1)


def seconds(work: Callable[[], object], threads: int) -> float:
    """Processor time on one thread, wall time on more."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def in_turn(timers: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The seconds of every timer: each once, in an order drawn anew, and then again.

    So a slow minute slows them all, and none always finds what the same other left in the caches.
    """
    rng, names = np.random.default_rng(0), list(timers)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in rng.permutation(names):
            times[name].append(timers[name]())
    return times


def faults(work: Callable[[], object]) -> int:
    """Pages that the work touches for the first time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


Peer = tuple[Callable[[], Any], Callable[[Any], NDArray[Any]]]
"""A peer's aggregation, which is timed, and how its result reads as one vector, which is not."""


def serve(
    version: str,
    make: Callable[[Rows, list[int]], dict[str, Peer]],
    coded: Callable[[NDArray[np.float32], str], NDArray[Any]] = lambda row, _: row,
) -> None:
    """Answers for a peer in its own environment: ``sys.argv`` has agents, values, threads and type.

    ``coded`` makes a row of that type; a peer without it knows float32 alone. The first line out is
    JSON: version, and by name relative error and page faults. Then every line in is a name, and the
    answer is the seconds that it took.
    """
    agents, values, threads = map(int, sys.argv[1:4])
    wide, examples = cohort(agents, values)
    rows = [coded(row, sys.argv[4]) for row in wide]
    del wide
    peers, truth = make(rows, examples), exact(rows, examples)
    errors = {name: error(flat(work()), truth) for name, (work, flat) in peers.items()}
    touched = {name: faults(work) for name, (work, _) in peers.items()}
    print(json.dumps({"version": version, "errors": errors, "faults": touched}), flush=True)
    for line in sys.stdin:
        print(seconds(peers[line.strip()][0], threads), flush=True)


def spread(times: list[float]) -> str:
    """Median, smallest and largest in milliseconds."""
    return f"{1e3 * median(times):.1f} ({1e3 * min(times):.1f} to {1e3 * max(times):.1f})"


def machine(values: int, **versions: str) -> str:
    """Processor, cores, size of a vector, and the versions that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    found = {"Python": platform.python_version(), "NumPy": np.__version__} | versions
    software = ", ".join(f"{name} {version}" for name, version in found.items())
    processor = names[0] if names else platform.machine()
    return f"{processor}, {os.cpu_count()} cores; {values:,} values in a vector; {software}."
