"""A strategy that sees only the part of the adapter which is sent in a round."""

from collections.abc import Mapping
from dataclasses import replace

from llmagentos.adapter import Adapter
from llmagentos.aggregation.methods import Method
from llmagentos.layout import Part, Vector
from llmagentos.state import ServerState
from llmagentos.strategies import Step, Strategy


def on_part(strategy: Strategy, method: Method) -> Strategy:
    """The strategy over the part that the method sends, each part with moments of its own.

    Whatever the strategy is, the other part keeps its bits.
    """

    def combine(state: ServerState, step: Step) -> Step:
        return strategy.combine(restricted(state, method.sent_in(state.round)), step)

    def advance(state: ServerState, step: Step) -> ServerState:
        part = method.sent_in(state.round)
        return put_back(state, strategy.advance(restricted(state, part), step), part)

    return replace(strategy, combine=combine, advance=advance)


def restricted(state: ServerState, part: Part) -> ServerState:
    """The state as it would be if there were only the part."""
    layout = state.adapter.layout
    adapter = Adapter(layout.only(part), state.adapter.vector[layout.part(part)])
    return ServerState(state.round, adapter, _under(part, state.moments), _under(part, state.extra))


def put_back(state: ServerState, moved: ServerState, part: Part) -> ServerState:
    """The state of the next round, in which the part has moved."""
    vector = state.adapter.vector.copy()
    vector[state.adapter.layout.part(part)] = moved.adapter.vector
    return ServerState(
        moved.round,
        Adapter(state.adapter.layout, vector),
        {**state.moments, **_named(part, moved.moments)},
        {**state.extra, **_named(part, moved.extra)},
    )


def _named(part: Part, vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    return {f"{part}.{name}": vector for name, vector in vectors.items()}


def _under(part: Part, vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    prefix = f"{part}."
    return {n.removeprefix(prefix): v for n, v in vectors.items() if n.startswith(prefix)}
