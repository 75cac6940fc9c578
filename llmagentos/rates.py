"""Learning rates of a round's steps, and what its gradients count for; from its task alone."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import cos, pi
from typing import Any

from llmagentos.settings import LocalSettings


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


def rates_of_round(settings: LocalSettings, round_: int, horizon: int) -> list[float]:
    """The learning rate of every step of a round."""
    return [learning_rate(settings, round_, step, horizon) for step in range(settings.steps)]


def step_weight(rates: Sequence[float], lr: float, mu: float) -> float:
    """How many steps at rate ``lr`` the gradients of a round count for; the steps if all have it.

    Plain descent with a pull of ``mu`` moves by ``-lr`` times a weighted sum of its gradients, and
    this is the sum of those weights: Wang et al. 2020, arXiv:2007.07481, section 4.1.
    """
    total = 0.0
    for rate in rates:
        total = (1 - rate * mu) * total + rate / lr
    return total


def asked_step_weight(asked: Mapping[str, Any], round_: int) -> float:
    """The step weight of whoever does in a round what the settings of its task ask for."""
    names = {field.name for field in fields(LocalSettings)} & asked.keys()
    settings = LocalSettings(**{name: asked[name] for name in names})
    rates = rates_of_round(settings, round_, asked.get("horizon", round_))
    return step_weight(rates, settings.lr, settings.mu)
