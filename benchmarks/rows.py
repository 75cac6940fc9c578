"""The same rows, weights and clock in every process of a benchmark; needs NumPy alone."""

import os
import platform
import time
from collections.abc import Callable
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
