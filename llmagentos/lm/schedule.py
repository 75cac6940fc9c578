"""Learning rate and rows of every step, from (seed, agent, round, step) alone.

Nothing here remembers: a resumed run, a repeated task and another process get the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi

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


def learning_rate(settings: LocalSettings, round_: int, step: int, horizon: int) -> float:
    """The rate of one step: a warm-up from zero, then the schedule down to 0 at the horizon.

    ``round_`` counts from 1 and ``step`` from 0; ``horizon`` is in rounds. Rounds beyond it
    train at the schedule's end, which is 0 unless the schedule is constant.
    """
    position = (round_ - 1) * settings.steps + step
    if position < settings.warmup_steps:
        return settings.lr * (position + 1) / settings.warmup_steps
    length = max(1, horizon * settings.steps - settings.warmup_steps)
    done = min(1.0, (position - settings.warmup_steps) / length)
    shapes = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2}
    return settings.lr * shapes[settings.schedule]


def step_weight(rates: Sequence[float], lr: float, mu: float) -> float:
    """How many steps at rate ``lr`` the gradients of a round count for; the steps if all have it.

    Plain descent with a pull of ``mu`` moves by ``-lr`` times a weighted sum of its gradients, and
    this is the sum of those weights: Wang et al. 2020, arXiv:2007.07481, section 4.1.
    """
    total = 0.0
    for rate in rates:
        total = (1 - rate * mu) * total + rate / lr
    return total


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
