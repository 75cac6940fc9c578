"""The next state where a method makes more of the agents' products than a mean of their factors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmagentos.adapter import initial_vector
from llmagentos.aggregation.local_factors import local_layers
from llmagentos.aggregation.methods import Method
from llmagentos.aggregation.residual import chapters, extended, factors_of, rank_of, vector_of
from llmagentos.aggregation.rules import Merged, Rule, hetlora_shares
from llmagentos.layout import Vector
from llmagentos.state import ServerState
from llmagentos.strategies import Step


@dataclass(frozen=True)
class Merge:
    """A method's rule over all layers, as the ``advance`` of a strategy."""

    method: Method
    rule: Rule
    residual_rank: int
    """Highest rank of what is kept beside the base."""
    seed: int
    """Seed of the adapters that start afresh."""

    def __call__(self, state: ServerState, step: Step) -> ServerState:
        """The state after a round whose updates are the rows of the step.

        A layer that none of their agents has stays as it is. What is no factor moves by the
        weighted mean of its changes.
        """
        change = step.mean()  # notices a row that has changed on the disk
        layout = state.adapter.layout
        sent = self.method.sent_in(state.round)
        rank, shares = rank_of(layout), step.weights
        if self.method.by_norm:
            layers = local_layers(state, step, sent, shares)
            shares = hetlora_shares((layer.local for layer in layers), shares)
            if layout != layout.factors:
                change = replace(step, weights=shares).mean()
        before = factors_of(layout, state.adapter.vector)
        layers = local_layers(state, step, sent, shares)
        merged = [
            self.rule(*layer, rank) if layer.local else Merged(pair)
            for layer, pair in zip(layers, before, strict=True)
        ]
        moved = state.advanced(np.concatenate([self._pairs(state, merged), _rest(state, change)]))
        return replace(moved, extra=self._extra(state, merged))

    def _pairs(self, state: ServerState, merged: Sequence[Merged]) -> Vector:
        layout = state.adapter.layout
        if self.method.afresh:
            return initial_vector(layout.factors, self.seed, state.round)
        return vector_of(layout, [each.pair for each in merged])

    def _extra(self, state: ServerState, merged: Sequence[Merged]) -> dict[str, Vector]:
        residuals = [each.residual for each in merged if each.residual is not None]
        if not residuals:
            return dict(state.extra)
        before = chapters(state.extra)
        others = {name: vector for name, vector in state.extra.items() if name not in before}
        layout, round_ = state.adapter.layout, state.round
        return others | extended(layout, before, residuals, round_, self.residual_rank)


def _rest(state: ServerState, change: Vector) -> Vector:
    """The values behind the factors, moved by as many at the end of the change."""
    rest = state.adapter.vector[state.adapter.layout.factors.size :]
    moved: Vector = rest + change[len(change) - len(rest) :]
    return moved
