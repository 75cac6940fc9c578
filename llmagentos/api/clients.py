"""A client: its name, its data and how much it counts."""

from dataclasses import dataclass
from math import inf
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
    require(steps is None or steps >= 1, "steps", steps, "needs at least 1")
    require(batch_size is None or batch_size >= 1, "batch_size", batch_size, "needs at least 1")
    try:
        batches = batches_of(given, batch_size)
    except SettingError as error:
        raise SettingError(f"client {name!r}: {error}") from error
    heaviness = batches.rows if weight is None else weight
    if heaviness is None:
        raise SettingError(f"client {name!r}: data has no length to weigh it by; give weight=")
    require(0 < heaviness < inf, "weight", weight, "needs to be finite and above 0")
    return Client(name, batches, heaviness, steps)
