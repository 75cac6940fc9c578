"""What a method adds to the base beside the adapter: pairs of factors, in chapters by round.

A chapter is a vector of the adapter's pairs at a rank of its own, with the adapter's scales; what
the adapter has beside its pairs is in none. The state holds them as ``extra["residual.<round>"]``.
A round adds one, or, where all together would be of too high a rank, puts the best of that rank in
the place of all of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from llmagentos.adapter import Adapter
from llmagentos.aggregation.factors import Factors, factors, rescaled, summed, truncated
from llmagentos.layout import Layout, Vector
from llmagentos.state import ServerState

PREFIX = "residual."


def factors_of(layout: Layout, vector: Vector) -> list[Factors]:
    """The products of a ``(d,)`` vector in the order of the layout's pairs."""
    tensors = layout.split(vector)
    return [factors(tensors[pair.a], tensors[pair.b], pair.scale) for pair in layout.pairs]


def vector_of(layout: Layout, products: Sequence[Factors]) -> Vector:
    """The products as one float32 vector at their highest rank, in the scales of the layout.

    It has the pairs of the layout alone.
    """
    rank = max(each.rank for each in products)
    ranked = layout.factors.ranked(rank)
    vector = np.zeros(ranked.size, np.float32)
    tensors = ranked.split(vector)
    for pair, product in zip(ranked.pairs, products, strict=True):
        a, b, _ = rescaled(product, pair.scale)
        tensors[pair.a][: product.rank] = a
        tensors[pair.b][:, : product.rank] = b
    return vector


def rank_of(layout: Layout) -> int:
    """The rank of all pairs of a layout."""
    return layout.pairs[0].rank


def joined(layout: Layout, vectors: Sequence[Vector]) -> Vector:
    """One vector whose products are the sums of those of the given ones, ranks added up.

    All of them have the pairs of the layout alone.
    """
    layouts = [layout.fitting(vector) for vector in vectors]
    whole = layout.factors.ranked(sum(map(rank_of, layouts)))
    parts = [fit.split(vector) for fit, vector in zip(layouts, vectors, strict=True)]
    axes = {"A": 0, "B": 1}
    return whole.join(
        {
            name: np.concatenate([part[name] for part in parts], axis=axes[role])
            for name, role in whole.roles.items()
        }
    )


def chapters(vectors: Mapping[str, Vector]) -> dict[str, Vector]:
    """The chapters among named vectors, in the order of their rounds."""
    names = sorted((name for name in vectors if name.startswith(PREFIX)), key=made_in)
    return {name: vectors[name] for name in names}


def in_one(state: ServerState) -> Adapter:
    """The adapter and the residual beside the base as one adapter, of the sum of their ranks."""
    parts = chapters(state.extra)
    return grown(state.adapter, list(parts.values())) if parts else state.adapter


def grown(adapter: Adapter, residuals: Sequence[Vector]) -> Adapter:
    """One adapter whose products are the sums of an adapter's and of the residuals beside it."""
    layout, end = adapter.layout, adapter.layout.factors.size
    whole = joined(layout, [adapter.vector[:end], *residuals])
    ranked = layout.ranked(rank_of(layout.fitting(whole)))
    return Adapter(ranked, np.concatenate([whole, adapter.vector[end:]]))


def made_in(name: str) -> int:
    """The round that made a chapter."""
    return int(name.removeprefix(PREFIX))


def extended(
    layout: Layout, before: Mapping[str, Vector], added: Sequence[Factors], round_: int, limit: int
) -> dict[str, Vector]:
    """The chapters with those of a round, at most of rank ``limit`` together.

    Where they would be of a higher one, a single chapter holds the best product of that rank.
    """
    if not max(each.rank for each in added):
        return dict(before)
    grown = {**before, f"{PREFIX}{round_}": vector_of(layout, added)}
    if sum(rank_of(layout.fitting(vector)) for vector in grown.values()) <= limit:
        return grown
    whole = joined(layout, list(before.values())) if before else None
    products = [truncated(product, limit).factors for product in _added(layout, whole, added)]
    return {f"{PREFIX}{round_}": vector_of(layout, products)}


def _added(layout: Layout, whole: Vector | None, added: Sequence[Factors]) -> list[Factors]:
    """What was there before and what a round adds, as one product a layer."""
    if whole is None:
        return list(added)
    former = factors_of(layout.fitting(whole), whole)
    return [summed(pair, [1.0, 1.0]) for pair in zip(former, added, strict=True)]
