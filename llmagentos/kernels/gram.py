"""Inner products between the agents' deltas."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels import arrays
from llmagentos.kernels.arrays import ArrayOrTensor

BLOCK = 2**16
"""Values of every row that are widened at a time."""


def gram(rows: Sequence[ArrayOrTensor]) -> NDArray[np.float64]:
    """``(n, n)`` float64: entry (i, k) is the inner product of rows i and k.

    Rows are as in ``weighted_sum``. Extra memory is n blocks of 64 Ki float64. Its last bits are
    those of the BLAS at hand.
    """
    checked = arrays.rows(rows)
    products = np.zeros((len(checked), len(checked)))
    size = checked[0].size if checked else 0
    for start in range(0, size, BLOCK):
        block = np.stack([row[start : start + BLOCK].astype(np.float64) for row in checked])
        products += block @ block.T
    return products
