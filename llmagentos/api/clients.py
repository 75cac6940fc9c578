"""A client: its name, its data and how much it counts."""

from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from typing import Any

from llmagentos.api.batches import Batches, batches_of
from llmagentos.errors import SettingError
from llmagentos.settings.checks import require


@dataclass(frozen=True)
class Client:
    """Who trains on which batches; ``steps`` of None is one pass over them each round."""

    name: str
    batches: Batches
    weight: float
    steps: int | None


def client_of(
    name: str, given: Any, *, weight: float | None, steps: int | None, batch_size: int | None
) -> Client:
    """A client whose weight is its number of rows unless given.

    Raises ``SettingError`` that names the argument for data, weight or steps that cannot be used.
    """
    whole = steps is None or (isinstance(steps, Integral) and steps >= 1)
    require(whole, "steps", steps, "needs to be a whole number, at least 1")
    number = weight is None or (isinstance(weight, Real) and 0 < weight < inf)
    require(number, "weight", weight, "needs to be a finite number above 0")
    try:
        batches = batches_of(given, batch_size)
    except SettingError as error:
        raise SettingError(f"client {name!r}: {error}") from error
    heaviness = batches.rows if weight is None else weight
    if heaviness is None:
        raise SettingError(f"client {name!r}: data has no length to weigh it by; give weight=")
    return Client(name, batches, heaviness, steps)
