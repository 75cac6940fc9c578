"""A strategy of one's own over the part that a method sends: it sees nothing else."""

from dataclasses import replace

import numpy as np

from llmagentos.adapter import Adapter
from llmagentos.aggregation import aggregated
from llmagentos.state import ServerState
from llmagentos.strategies import Step, fedavg
from tests.lora_world import LAYOUT, settings_of


def shrinking():
    """Every round takes half of the adapter away, and counts itself in a moment and beside."""

    def combine(state, updates):
        return replace(updates, rows=[row - state.adapter.vector / 2 for row in updates.rows])

    def advance(state, step):
        moved = state.advanced(
            step.moved(state.adapter.vector, 1), rounds=state.moment("rounds") + 1
        )
        beside = state.extra.get("beside", np.zeros(1, np.float32)) + 1
        return replace(moved, extra={**state.extra, "beside": beside})

    return replace(fedavg(), combine=combine, advance=advance)


def test_parts_that_take_turns_have_moments_and_vectors_of_their_own():
    strategy = aggregated(shrinking(), settings_of("rolora"))
    drawn = np.random.default_rng(0).standard_normal(LAYOUT.size).astype(np.float32)
    state = ServerState(1, Adapter(LAYOUT, drawn))
    for part, other in ("BA", "AB", "BA"):
        row = np.zeros(LAYOUT.only(part).size, np.float32)
        step = strategy.combine(state, Step([row], [1.0]))
        before, state = state.adapter.vector, strategy.advance(state, step)
        after = state.adapter.vector
        assert (after[LAYOUT.part(part)] == before[LAYOUT.part(part)] / 2).all()
        assert (after[LAYOUT.part(other)] == before[LAYOUT.part(other)]).all()
    assert {name: vector[0] for name, vector in state.moments.items()} == {
        "B.rounds": 2,
        "A.rounds": 1,
    }
    assert {name: vector[0] for name, vector in state.extra.items()} == {
        "B.beside": 2,
        "A.beside": 1,
    }
