"""What `robust.py` asks of whom: order statistics, distances, clipping and ring sums."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from rows import Rows, error, exact_distances, few_pairs

from llmagentos import kernels
from llmagentos.kernels import pairs, reference
from llmagentos.kernels.twin import compiled

OURS = "this library"
PLAIN = "plain NumPy twin"
CHECKED = 4096
"""Columns whose order statistics are compared with an exact sort."""
PLAIN_PAIRS = 100
"""Pairs up to which the plain twin is waited for."""

Result = np.ndarray
Works = dict[str, Callable[[], Result]]


@dataclass(frozen=True)
class Question:
    """What is computed, who computes it, the exact answer, and the part of an answer to compare."""

    name: str
    works: Works
    truth: Result
    tolerance: float
    part: Callable[[Result], Result] = lambda answer: answer


def sorted_columns(rows: Rows) -> Result:
    """The first columns in float64, sorted."""
    return np.sort([row[:CHECKED].astype(np.float64) for row in rows], axis=0)


def of_each_twin(work: Callable[[object], Result]) -> Works:
    """Every instruction set from the widest down, and the plain twin."""
    *others, widest = compiled().values()
    rest = {f"{OURS}, {each.name}": partial(work, each) for each in reversed(others)}
    return {OURS: partial(work, widest)} | rest | {PLAIN: partial(work, reference)}


def twins_of(kernel: str, out: Result, *given: object) -> Works:
    """A kernel of every twin."""

    def work(twin: object) -> Result:
        getattr(twin, kernel)(out, *given, 1)
        return out

    return of_each_twin(work)


def distances_of(rows: Rows) -> Works:
    """Behind the one door, which takes them from the Gram matrix where it may, every twin."""

    def work(twin: object) -> Result:
        with patch.object(pairs, "twin", twin):
            return kernels.squared_distances(rows, threads=1).reshape(-1)

    return of_each_twin(work)


def order_statistic(name: str, rows: Rows, trim: int) -> Question:
    """Median or trimmed mean; peers sort or partition the rows they were given, stacking them."""
    n = len(rows)
    tensors = [torch.from_numpy(row) for row in rows]
    out = np.empty(rows[0].size, np.float32)

    def partition() -> Result:
        parts = np.partition(np.stack(rows), (trim, n - trim - 1), axis=0)
        return parts[trim : n - trim].mean(axis=0)

    def sort() -> Result:
        return torch.sort(torch.stack(tensors), dim=0).values[trim : n - trim].mean(dim=0).numpy()

    works = twins_of("trimmed_mean", out, rows, trim) | {"NumPy": partition, "torch": sort}
    if name == "median":
        works["NumPy"] = lambda: np.median(np.stack(rows), axis=0)
    truth = sorted_columns(rows)[trim : n - trim].mean(axis=0)
    return Question(name, works, truth, 1e-6, lambda answer: answer[:CHECKED])


def distances(rows: Rows) -> Question:
    """Squared distances of all pairs; torch from the differences and by its matrix product."""
    n = len(rows)
    tensors = [torch.from_numpy(row) for row in rows]
    works = distances_of(rows)

    def cdist(mode: str) -> Result:
        stacked = torch.stack(tensors)
        return torch.cdist(stacked, stacked, compute_mode=mode).square().numpy().reshape(-1)

    works["torch `cdist`"] = partial(cdist, "use_mm_for_euclid_dist")
    if n > PLAIN_PAIRS**0.5:
        del works[PLAIN]
    return Question(
        "distances", works, exact_distances(rows), 0.1, lambda answer: few_pairs(answer, n)
    )


def inner_products(rows: Rows) -> Question:
    """The Gram matrix in float64; NumPy widens a block of every row and multiplies."""
    n, size = len(rows), rows[0].size

    def blocks() -> Result:
        products = np.zeros((n, n))
        for start in range(0, size, 2**16):
            block = np.stack([row[start : start + 2**16].astype(np.float64) for row in rows])
            products += block @ block.T
        return products.reshape(-1)

    works = twins_of("inner_products", np.empty(n * n), rows) | {"NumPy, BLAS": blocks}
    if n > PLAIN_PAIRS**0.5:
        del works[PLAIN]
    return Question("Gram matrix", works, blocks(), 1e-9)


def clipping(rows: Rows) -> Question:
    """One row shortened to half its norm."""
    row, out = rows[0], np.empty(rows[0].size, np.float32)
    norm = np.linalg.norm(row.astype(np.float64))
    source, target = torch.from_numpy(row), torch.empty(row.size)

    def in_torch() -> Result:
        return torch.mul(source, norm / 2 / source.norm(), out=target).numpy()

    def in_numpy() -> Result:
        return np.multiply(row, np.float32(norm / 2) / np.linalg.norm(row), out=out)

    ours = partial(kernels.clipped, row, norm / 2, out=out, threads=1)
    works = {OURS: lambda: ours().vector, "NumPy": in_numpy, "torch": in_torch}
    return Question("clip one row", works, row.astype(np.float64) / 2, 1e-4)


def ring(rows: Rows) -> Question:
    """The rows' bits as integers, added modulo 2^32."""
    integers = [row.view(np.uint32) for row in rows]
    tensors = [torch.from_numpy(row.view(np.int32)) for row in rows]
    out, total = np.empty(rows[0].size, np.uint32), torch.empty(rows[0].size, dtype=torch.int32)

    def in_torch() -> Result:
        total.zero_()
        for tensor in tensors:
            total.add_(tensor)
        return total.numpy().view(np.uint32)

    truth = np.sum(integers, axis=0, dtype=np.uint32)
    works = twins_of("ring_sum", out, integers) | {"torch": in_torch}
    return Question("ring sum", works, truth, 1e-12)


def off(question: Question, answer: Result) -> float:
    """The relative error of an answer."""
    return error(question.part(answer), question.truth.astype(np.float64))


def questions(rows: Rows) -> list[Question]:
    """All of them, on the same rows."""
    n = len(rows)
    return [
        order_statistic("median", rows, (n - 1) // 2),
        order_statistic("trimmed mean", rows, n // 5),
        distances(rows),
        inner_products(rows),
        clipping(rows),
        ring(rows),
    ]
