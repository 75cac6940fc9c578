"""What holds between every two of the agents' deltas."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels import arrays
from llmagentos.kernels.arrays import RowLike
from llmagentos.kernels.twin import twin

Matrix = NDArray[np.float64]


CLOSE = 2.0**-6
"""Share of |x|^2 + |y|^2 below which a squared distance is taken from the differences."""


def squared_distances(rows: Sequence[RowLike], *, threads: int | None = None) -> Matrix:
    """``(n, n)`` float64: entry (i, k) is the squared distance of rows i and k.

    Rows are as in ``weighted_sum``. It is |x|^2 + |y|^2 - 2 xy, and where that would cancel it
    comes from the differences: relative error below 1e-9 for up to 1e9 values, however close two
    rows are. The diagonal is 0. NaN where one of two rows has a NaN. The bits do not depend on
    ``threads``, each of which takes n blocks of 8 KiB.
    """
    checked = arrays.rows_in_place(rows)
    products = _of_pairs(twin.inner_products, checked, threads)
    norms = np.diagonal(products)
    with np.errstate(all="ignore"):
        together = norms[:, None] + norms[None, :]
        distances: Matrix = together - 2 * products
        apart = distances > CLOSE * together
    np.fill_diagonal(distances, 0.0)
    np.fill_diagonal(apart, True)
    near = np.flatnonzero(~apart.all(axis=0))
    if near.size:
        here = np.ix_(near, near)
        exact = _of_pairs(twin.squared_distances, [checked[i] for i in near], threads)
        distances[here] = np.where(apart[here], distances[here], exact)
    return distances


def gram(rows: Sequence[RowLike], *, threads: int | None = None) -> Matrix:
    """``(n, n)`` float64: entry (i, k) is the inner product of rows i and k.

    Products are exact and are added in float64, in the order of the squared norms: the diagonal has
    the bits of ``RowStats.squared_norm`` where rows are float32; scaled rows are rounded to that.
    Else as in ``squared_distances``.
    """
    return _of_pairs(twin.inner_products, arrays.rows_in_place(rows), threads)


def centred_gram(rows: Sequence[RowLike], *, threads: int | None = None) -> Matrix:
    """``(n, n)`` float64: the inner products of the rows' differences from their mean.

    From the squared distances D, without forming the mean: -1/2 C D C, where C takes a mean away
    (Torgerson 1952, Psychometrika 17, equation 9). Its error is that of D, however far the mean is.
    """
    half = -0.5 * squared_distances(rows, threads=threads)
    means = half.mean(axis=0) if len(half) else half
    centred: Matrix = half - means[None, :] - means[:, None] + means.mean() if len(half) else half
    return centred


def _of_pairs(
    kernel: Callable[[Matrix, list[Any], int], None], rows: list[Any], threads: int | None
) -> Matrix:
    matrix = np.empty((len(rows), len(rows)))
    work = len(rows) * sum(row.nbytes for row in rows)
    kernel(matrix.reshape(-1), arrays.passed(rows), arrays.threads_for(work, threads))
    return matrix
