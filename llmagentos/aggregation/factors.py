"""Products of two thin factors, added, measured and truncated without ever making a dense weight.

A product is ``scale * b @ a`` with A ``(r, in)`` and B ``(out, r)``, as PEFT stores both for linear
layers, Conv1D included: only a merge has to know ``fan_in_fan_out``. All is done in float64. A sum
of products is one product of stacked factors, and after a QR of either side everything about it
is in a small core of at most ``k x k`` for k rows in all. No squares are subtracted, so what is
small stays exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Factors(NamedTuple):
    """``scale * b @ a``: ``a`` is ``(r, in)``, ``b`` is ``(out, r)``."""

    a: Matrix
    b: Matrix
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Rows of A, so the highest rank that the product can have."""
        return len(self.a)

    def dense(self) -> Matrix:
        """The product itself, ``(out, in)``, for tests and small layers."""
        return self.scale * (self.b @ self.a)


class Truncated(NamedTuple):
    """The best product of a rank, and the norm of what it leaves out."""

    factors: Factors
    error: float


def factors(a: NDArray[Any], b: NDArray[Any], scale: float) -> Factors:
    """The product of two arrays, in float64."""
    return Factors(np.asarray(a, np.float64), np.asarray(b, np.float64), scale)


def summed(products: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of products, each with its own scale, as one product of scale 1.

    Weights enter on one side only: on both they would be squared.
    """
    shares = [weight * each.scale for each, weight in zip(products, weights, strict=True)]
    a = np.concatenate([each.a for each in products])
    b = np.concatenate([s * each.b for each, s in zip(products, shares, strict=True)], axis=1)
    return Factors(a, b)


def difference(one: Factors, other: Factors) -> Factors:
    """One product without another."""
    return summed([one, other], [1.0, -1.0])


def norm(product: Factors) -> float:
    """Frobenius norm of a product."""
    return float(np.linalg.norm(core(product)))


def core(product: Factors) -> Matrix:
    """A matrix with the singular values of the product, at most ``(k, k)``."""
    left, right = (np.asarray(np.linalg.qr(x, mode="r")) for x in (product.b, product.a.T))
    return np.asarray(product.scale * (left @ right.T), np.float64)


def truncated(product: Factors, rank: int) -> Truncated:
    """The nearest product of at most ``rank``: A has orthonormal rows, B the singular values.

    Eckart and Young 1936; the error is the root of the sum of the squared singular values that are
    left out. Signs are such that the entry of largest magnitude in each column of B's singular
    vectors is positive. The factors have just ``rank`` rows, zero where the layer has fewer.
    """
    left, values, right = decomposed(product)
    kept = min(rank, len(values))
    out, in_ = len(product.b), product.a.shape[1]
    a, b = np.zeros((rank, in_)), np.zeros((out, rank))
    a[:kept], b[:, :kept] = right[:kept], left[:, :kept] * values[:kept]
    return Truncated(Factors(a, b), float(np.linalg.norm(values[kept:])))


def decomposed(product: Factors) -> tuple[Matrix, Matrix, Matrix]:
    """``U (out, k)``, singular values ``(k,)`` and ``V^T (k, in)`` of a product, by QR and SVD."""
    left, core_left = np.linalg.qr(product.b)
    right, core_right = np.linalg.qr(product.a.T)
    u, values, vt = np.linalg.svd(product.scale * core_left @ core_right.T, full_matrices=False)
    u, vt = left @ u, vt @ right.T
    largest = np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)[0]
    signs = np.where(largest < 0, -1.0, 1.0)
    return u * signs, values, vt * signs[:, None]


def rescaled(product: Factors, scale: float) -> Factors:
    """The same product written with another scale."""
    return Factors(product.a, product.b * (product.scale / scale), scale)


def padded(product: Factors, rank: int) -> Factors:
    """The same product with zero rows of A and zero columns of B up to a rank."""
    more = rank - product.rank
    assert more >= 0
    a = np.pad(product.a, ((0, more), (0, 0)))
    return Factors(a, np.pad(product.b, ((0, 0), (0, more))), product.scale)
