"""What each method makes of the agents' products: pure algebra on pairs of factors.

A rule takes, for one layer, the agents' local factors and their shares p, which sum to 1, and a
rank. The ideal is M = sum_i p_i s_i B_i A_i. What it gives back is the new global pair and, where
the method has one, a residual that is added to the base. Every pair comes back in the first
agent's scale s.
"""

from collections.abc import Callable, Iterable, Sequence
from math import fsum
from typing import NamedTuple

import numpy as np

from llmagentos.aggregation.factors import (
    Factors,
    Matrix,
    difference,
    norm,
    padded,
    rescaled,
    summed,
    truncated,
)


class Merged(NamedTuple):
    """The new pair of a layer, and what is added to the base beside it; None for nothing."""

    pair: Factors
    residual: Factors | None = None

    @property
    def product(self) -> Factors:
        """All that the agents get, as one product."""
        parts = [self.pair] if self.residual is None else [self.pair, self.residual]
        return summed(parts, [1.0] * len(parts))


Locals = Sequence[Factors]
Shares = Sequence[float]
Rule = Callable[[Locals, Shares, int], Merged]

SMALLEST = 2.0**-24
"""Singular values below this share of the products' norms are the rounding of float32."""


def averaged(local: Locals, shares: Shares, rank: int) -> Merged:
    """A = sum p_i A_i and B = sum p_i B_i, each filled with zeros up to the rank.

    With equal ranks FedIT's (Zhang et al. 2023, arXiv:2305.05644): off from M by exactly
    s sum_i p_i (B_i - B)(A_i - A). With unequal ones zero-padding (Cho et al. 2024,
    arXiv:2401.06432, the baseline). Where one factor is common to all, it is exact.
    """
    scale = local[0].scale
    fitted = [padded(rescaled(each, scale), rank) for each in local]
    a, b = (_mean(each, shares) for each in ([f.a for f in fitted], [f.b for f in fitted]))
    return Merged(Factors(a, b, scale))


def flexlora(local: Locals, shares: Shares, rank: int) -> Merged:
    """The best product of the rank: off from M by the singular values beyond it.

    Bai et al. 2024, arXiv:2402.11505. A has orthonormal rows, so that directions
    which nobody has used yet can still learn.
    """
    best = truncated(summed(local, shares), rank).factors
    return Merged(rescaled(best, local[0].scale))


def fedex(local: Locals, shares: Shares, rank: int) -> Merged:
    """The averages of A and B, and the base gets M - s B A.

    Singhal et al. 2025, arXiv:2410.09432. The residual has rank (N - 1) r at
    most; it is that of the pair as it is sent, in float32.
    """
    pair = _in_float32(averaged(local, shares, rank).pair)
    return Merged(pair, condensed(difference(summed(local, shares), pair), local, shares))


def flora(local: Locals, shares: Shares, rank: int) -> Merged:
    """All stacked, [p_1 s_1 B_1 ...] [A_1; ...] = M, into the base; the pair starts afresh.

    Wang et al. 2024, arXiv:2409.05976. The pair that comes back is the first agent's
    A with a B of zero; whoever goes on draws another A.
    """
    first = local[0]
    fresh = padded(Factors(first.a[:rank], np.zeros((len(first.b), min(first.rank, rank)))), rank)
    return Merged(
        Factors(fresh.a, fresh.b, first.scale),
        condensed(summed(local, shares), local, shares),
    )


def fedsvd(local: Locals, shares: Shares, rank: int) -> Merged:
    """The average of B with the common A, then both turned: A = V_r^T and B = U_r S_r / s.

    Lee et al. 2025, arXiv:2505.12805. The product stays, A A^T becomes the identity.
    """
    return flexlora([averaged(local, shares, rank).pair], [1.0], rank)


def lora_fair(local: Locals, shares: Shares, rank: int, *, ridge: float = 0.01) -> Merged:
    """The averages, and B moved towards M as far as the averaged A lets it.

    Bian et al. 2025, arXiv:2411.14961, with the squared distance as the measure of likeness, which
    has a closed form: minimise |M - s (B + D) A|^2 + ridge t |D|^2 over D, where t
    is the mean of the diagonal of s^2 A A^T, so that ``ridge`` has no unit.
    """
    a, b, scale = averaged(local, shares, rank).pair
    missing = difference(summed(local, shares), Factors(a, b, scale))
    gram = scale**2 * (a @ a.T)
    pull = ridge * np.trace(gram) / rank or 1.0
    moved = scale * (missing.b @ (missing.a @ a.T))
    step = np.linalg.solve(gram + pull * np.eye(rank), moved.T).T
    return Merged(Factors(a, b + step, scale))


def condensed(product: Factors, local: Locals, shares: Shares) -> Factors:
    """The product at the rank that it has, once what float32 rounds away is left out."""
    reference = norm(summed(local, shares))
    kept = truncated(product, product.rank).factors
    sizes = np.linalg.norm(kept.b, axis=0)
    rank = int((sizes > SMALLEST * reference).sum())
    return rescaled(Factors(kept.a[:rank], kept.b[:, :rank]), local[0].scale)


def hetlora_shares(layers: Iterable[Locals], shares: Shares) -> Shares:
    """Shares in proportion to p_i |s_i B_i A_i|, over all layers of an agent together.

    Cho et al. 2024, arXiv:2401.06432. ``layers`` are the agents' factors by layer.
    Without any product yet they stay as they are.
    """
    norms = np.linalg.norm([[norm(each) for each in local] for local in layers], axis=0).tolist()
    weighted = [share * size for share, size in zip(shares, norms, strict=True)]
    total = fsum(weighted)
    return [weight / total for weight in weighted] if total else shares


def _mean(matrices: Sequence[Matrix], shares: Shares) -> Matrix:
    return sum((p * m for p, m in zip(shares, matrices, strict=True)), np.zeros_like(matrices[0]))


def _in_float32(pair: Factors) -> Factors:
    a, b = (matrix.astype(np.float32).astype(np.float64) for matrix in (pair.a, pair.b))
    return Factors(a, b, pair.scale)
