"""The agents' own factors in a round, layer by layer, as their rows say them."""

from collections.abc import Iterator

import numpy as np

from llmagentos.adapter import Part, Vector
from llmagentos.aggregation.factors import Factors, factors
from llmagentos.codecs import Row
from llmagentos.state import ServerState
from llmagentos.strategies import Step


def local_factors(state: ServerState, step: Step, sent: Part) -> Iterator[list[Factors]]:
    """For every pair of the layout the agents' local factors, in the order of the rows.

    Rows hold what was sent; the other part is the state's. Only one layer is in memory at a time.
    """
    for pair in state.adapter.layout.pairs:
        sides = [[_local(state, row, name, sent) for name in (pair.a, pair.b)] for row in step.rows]
        yield [factors(a, b, pair.scale) for a, b in sides]


def _local(state: ServerState, row: Row, name: str, sent: Part) -> Vector:
    """One tensor of an agent: the global one, moved where the row has values of it."""
    layout = state.adapter.layout
    if sent not in ("both", layout.roles[name]):
        return state.adapter[name]
    place, start = layout.places[name], layout.part(sent).start
    change = np.asarray(row[place.start - start : place.stop - start], np.float32)
    moved: Vector = state.adapter[name] + change.reshape(state.adapter[name].shape)
    return moved
