"""Rows of every step, from (seed, agent, round, step) alone.

Nothing here remembers: a resumed run, a repeated task and another process get the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmagentos.corpus import Row
from llmagentos.seeds import generator
from llmagentos.settings import LocalSettings


@dataclass(frozen=True)
class Step:
    """One optimizer step: its learning rate, the rows of each of its forward passes, and a seed."""

    lr: float
    passes: tuple[tuple[Row, ...], ...]
    seed: int


def row_order(seed: int, agent: str, rows: int, start: int, count: int) -> NDArray[np.int64]:
    """``(count,)`` row numbers from position ``start`` of an agent's endless stream.

    The stream is one permutation of all rows after the other, each with its own generator.
    """
    first, last = start // rows, (start + count - 1) // rows
    epochs = [generator(seed, "rows", agent, e).permutation(rows) for e in range(first, last + 1)]
    begin = start - first * rows
    return np.concatenate(epochs)[begin : begin + count]


def steps_of_round(
    settings: LocalSettings,
    rows: Sequence[Row],
    order: NDArray[np.int64],
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[Step]:
    """A round's steps, from the row numbers, learning rates and seeds that belong to it."""
    shape = (settings.steps, settings.accumulation, settings.batch)
    return [
        Step(lr, tuple(tuple(rows[i] for i in pass_) for pass_ in passes), seed)
        for lr, passes, seed in zip(rates, order.reshape(shape), seeds, strict=True)
    ]
