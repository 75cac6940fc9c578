"""Who takes part in `average.py`: this library, its plain twin, and torch, over the same bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch
from rows import PIECES, Rows

from llmagentos import kernels
from llmagentos.codecs import codec_of
from llmagentos.kernels import arrays, reference
from llmagentos.kernels.twin import compiled
from llmagentos.scaled import ScaledRow
from llmagentos.settings import CodecSettings

Work = Callable[[], object]

OURS = "this library"
WITH_STEP = "this library, with the step"
WITH_ADAM = "this library, with FedAdam"


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
