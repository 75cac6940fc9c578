"""The agents' own factors in a round, layer by layer, as their rows say them."""

from collections.abc import Iterator, Sequence
from math import fsum
from typing import NamedTuple

import numpy as np

from llmagentos.aggregation.factors import Factors, factors
from llmagentos.codecs import Row
from llmagentos.layout import LoraPair, Part, Vector
from llmagentos.state import ServerState
from llmagentos.strategies import Step


class Layer(NamedTuple):
    """The local factors of one layer, of the agents that have it, and their shares of it.

    The shares sum to 1; there may be no such agent.
    """

    local: list[Factors]
    shares: list[float]


def local_layers(
    state: ServerState, step: Step, sent: Part, shares: Sequence[float]
) -> Iterator[Layer]:
    """Every pair of the layout as the rows have it, in their order.

    ``shares`` are those of the rows. Rows hold what was sent; the other part is the state's. Only
    one layer is in memory at a time.
    """
    for pair in state.adapter.layout.pairs:
        there = [row for row in range(len(step.rows)) if _has(step, row, pair)]
        whole = fsum(shares[row] for row in there)
        local = [_local(state, step.rows[row], pair, sent) for row in there]
        yield Layer(local, [shares[row] / whole for row in there])


def _has(step: Step, row: int, pair: LoraPair) -> bool:
    return not step.lacking or pair.a not in step.lacking[row]


def _local(state: ServerState, row: Row, pair: LoraPair, sent: Part) -> Factors:
    a, b = (_moved(state, row, name, sent) for name in (pair.a, pair.b))
    return factors(a, b, pair.scale)


def _moved(state: ServerState, row: Row, name: str, sent: Part) -> Vector:
    """One tensor of an agent: the global one, moved where the row has values of it."""
    layout = state.adapter.layout
    if sent not in ("both", layout.roles[name]):
        return state.adapter[name]
    place, start = layout.places[name], layout.part(sent).start
    change = np.asarray(row[place.start - start : place.stop - start], np.float32)
    moved: Vector = state.adapter[name] + change.reshape(state.adapter[name].shape)
    return moved
