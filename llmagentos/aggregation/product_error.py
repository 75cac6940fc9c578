"""How far what the agents get is from the mean of their products."""

import numpy as np

from llmagentos.aggregation.factors import Factors, difference, norm, summed
from llmagentos.aggregation.local_factors import local_layers
from llmagentos.aggregation.residual import chapters, factors_of, joined
from llmagentos.layout import Layout
from llmagentos.messages import Task
from llmagentos.state import ServerState
from llmagentos.strategies import Step


def product_error(before: ServerState, step: Step, after: ServerState, task: Task) -> float | None:
    """``|M - G| / |M|`` over all layers, Frobenius, for M the mean of the products of a round.

    M is ``sum_i p_i s_i B_i A_i`` of the local factors, G what came of it: the product of the new
    adapter, and what the residual beside the base has gained. A layer's mean is that of the
    agents which have it; a layer that none has is left out. None where there are no pairs of
    factors, or where the agents keep one of them.
    """
    layout = before.adapter.layout
    sent, trained = (task.settings.get(name, "both") for name in ("sent", "trained"))
    if not layout.pairs or sent != trained:
        return None
    layers = local_layers(before, step, sent, step.weights)
    sizes, missed = [], []
    for layer, gained in zip(layers, _gained(before, after), strict=True):
        if not layer.local:
            continue
        mean = summed(*layer)
        sizes.append(norm(mean))
        missed.append(norm(difference(mean, gained)))
    whole = float(np.linalg.norm(sizes))
    return float(np.linalg.norm(missed)) / whole if whole else 0.0


def _gained(before: ServerState, after: ServerState) -> list[Factors]:
    """What each layer has of the new adapter and of the change of the residual."""
    layout = before.adapter.layout
    products = [[pair] for pair in factors_of(layout, after.adapter.vector)]
    signs = [1.0]
    for state, sign in ((after, 1.0), (before, -1.0)):
        if found := _residual(layout, state):
            signs.append(sign)
            for layer, residual in zip(products, found, strict=True):
                layer.append(residual)
    return [summed(layer, signs) for layer in products]


def _residual(layout: Layout, state: ServerState) -> list[Factors]:
    parts = list(chapters(state.extra).values())
    whole = joined(layout, parts) if parts else None
    return [] if whole is None else factors_of(layout.fitting(whole), whole)
