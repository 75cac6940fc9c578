"""What an answer has to satisfy before anyone believes it."""

import logging
from collections.abc import Mapping
from math import inf, isclose, isfinite, nan, sqrt
from statistics import median

import numpy as np

from llmagentos import kernels
from llmagentos.codecs import Row, codec_of, in_place, read_all
from llmagentos.errors import Refused
from llmagentos.messages import ADDRESS, Failure, Task, Update
from llmagentos.rates import asked_step_weight
from llmagentos.settings import asked_codec

log = logging.getLogger(__name__)

LARGEST_SHARE = 10
"""A weight counts for at most this many times the median weight of its round."""

LARGEST_NORM = 2.0**63
"""Of a change; squares of a longer one, as adaptive servers take them, leave float32's numbers."""

LARGEST_METRIC = float(np.finfo(np.float32).max)
"""Metrics are made in float32; sums of what is larger would leave the numbers."""


def admit(answer: Update | Failure, task: Task, heaviest: float = inf) -> float:
    """The squared norm of an answer's delta, 0 where it has none, once all of it is found sane.

    ``heaviest`` is the most that the agent may weigh, as it declared when it joined.
    Raises ``Refused`` with the reason when anything is off; other updates are not touched by it.
    """
    for name in ADDRESS:
        said, asked = getattr(answer, name), getattr(task, name)
        if said != asked:
            raise Refused(f"it answers {name} {said!r}, asked was {asked!r}")
    if isinstance(answer, Failure):
        raise Refused(answer.reason)
    _check_metrics(answer)
    if task.kind == "fit":
        return _check_vectors(answer, task, heaviest)
    _check_loss(answer)
    return 0.0


def _check_metrics(update: Update) -> None:
    for name, value in update.metrics.items():
        if abs(value) > LARGEST_METRIC:
            raise Refused(f"its {name!r} is {value:g}, which is more than a float32 holds")


def _check_vectors(update: Update, task: Task, heaviest: float) -> float:
    """The squared norm of the delta, once layout, weight and all values are found sane."""
    size = task.values
    if update.layout != task.layout.hash:
        raise Refused(f"its layout is not the dispatched one of {task.layout.size} values")
    if not 0 < update.weight <= heaviest:
        raise Refused(
            f"weight {update.weight:g} is not in (0, {heaviest:g}], what the agent enrolled with; "
            f"where that is outdated, correct it: enrol update --name {task.agent!r}"
        )
    _check_steps(update, task)
    codec = codec_of(asked_codec(task.settings))
    rows = read_all(codec, update.vectors, task.carried, size)
    return {name: _squared_norm(name, row) for name, row in rows.items()}["delta"]


def _check_steps(update: Update, task: Task) -> None:
    """An update that is divided by what its steps count for says what those of its task do."""
    if task.settings.get("normalised"):
        counted = update.metrics.get("step_weight", nan)
        asked = asked_step_weight(task.settings, task.round)
        if not isclose(counted, asked, rel_tol=1e-6):
            raise Refused(f"its step_weight is {counted:g}, that of its task is {asked:g}")


def _squared_norm(name: str, row: Row) -> float:
    """That of a row whose values are finite."""
    squared_norm, nonfinite = 0.0, 0
    for _, (values,) in in_place([row]):
        found = kernels.inspect(values)
        squared_norm += found.squared_norm
        nonfinite += found.nonfinite
    if nonfinite:
        of = "" if name == "delta" else f" of {name!r}"
        raise Refused(f"{nonfinite} of {len(row)} values{of} are not finite")
    if squared_norm > LARGEST_NORM**2:
        raise Refused(f"its {name!r} has norm {sqrt(squared_norm):.1e}, above {LARGEST_NORM:.1e}")
    return squared_norm


def _check_loss(update: Update) -> None:
    if update.vectors:
        raise Refused("an evaluation carries no vectors")
    loss = update.metrics.get("loss", inf)
    if not isfinite(loss):
        raise Refused(f"its held-out loss is {loss}")


def cap_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights, none above ten times their median; the log names the cut.

    Of one or two weights none can be.
    """
    largest = LARGEST_SHARE * median(weights.values())
    for agent, weight in weights.items():
        if weight > largest:
            log.warning("weight %g of agent %r counts as %g", weight, agent, largest)
    return {agent: min(weight, largest) for agent, weight in weights.items()}
