"""The server's optimizers on the agents' rows: average and step in one pass, without a delta.

Each gives the bits of ``weighted_sum`` and then the step of the same name in ``steps``, and reads
and writes two vectors less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from llmagentos.kernels import arrays, device
from llmagentos.kernels.arrays import RowLike
from llmagentos.kernels.launch import takes
from llmagentos.kernels.steps import Adaptive, Momentum, inputs, outputs, room
from llmagentos.kernels.twin import twin

State = TypeVar("State", Momentum, Adaptive)


@dataclass(frozen=True)
class StepPass(Generic[State]):
    """One pass over ``(n, d)`` rows that ended in a step."""

    state: State
    """After the step; the vectors given as ``out``, where some were given."""
    squared_norms: tuple[float, ...]
    """One per row, as in ``RowStats``."""
    nonfinite: tuple[int, ...]
    """One per row, as in ``RowStats``."""


def average_momentum_step(  # noqa: PLR0913 (keyword-only)
    state: Momentum,
    rows: Sequence[RowLike],
    weights: Sequence[float],
    *,
    lr: float,
    beta: float,
    out: Momentum | None = None,
    threads: int | None = None,
) -> StepPass[Momentum]:
    """``momentum_step`` of the weighted sum of the rows, which are as in ``weighted_sum``."""
    return _average_and(
        "momentum", state, rows, weights, rates=(lr, beta), out=out, threads=threads
    )


def average_adaptive_step(  # noqa: PLR0913 (keyword-only)
    rule: Literal["adam", "yogi", "adagrad"],
    state: Adaptive,
    rows: Sequence[RowLike],
    weights: Sequence[float],
    *,
    lr: float,
    beta1: float = 0.0,
    beta2: float = 0.0,
    tau: float,
    out: Adaptive | None = None,
    threads: int | None = None,
) -> StepPass[Adaptive]:
    """``adam_step``, ``yogi_step`` or ``adagrad_step`` of the weighted sum of the rows."""
    rates = (lr, beta1, beta2, tau)
    return _average_and(rule, state, rows, weights, rates=rates, out=out, threads=threads)


def _average_and(  # noqa: PLR0913 (keyword-only)
    rule: str,
    state: State,
    rows: Sequence[RowLike],
    weights: Sequence[float],
    *,
    rates: tuple[float, ...],
    out: State | None,
    threads: int | None,
) -> StepPass[State]:
    *moments, w = state
    given = {"w": w} | dict(zip(state._fields, moments, strict=False))
    places = room(len(given), out)
    step = f"average_{rule}_step"
    if takes(w):
        after, stats = device.average_and_step(step, given, rows, weights, rates=rates, out=places)
        return StepPass(type(state)(*after), *stats)
    before = inputs(**given)
    checked = arrays.rows_in_place(rows, before["w"].size)
    factors = arrays.weights_of(weights, len(checked))
    taken = before | arrays.named(checked)
    after = outputs(places, taken)
    count = arrays.threads_for(sum(vector.nbytes for vector in taken.values()), threads)
    norms, nonfinite = getattr(twin, step)(
        after, list(before.values()), rates, arrays.passed(checked), factors, count
    )
    return StepPass(type(state)(*after), tuple(norms), tuple(nonfinite))
