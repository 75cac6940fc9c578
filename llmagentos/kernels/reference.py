"""What every kernel means, in plain NumPy: the native twin gives the same bits.

Rows are ``(d,)`` float32, float16 or bfloat16, or a pair of ``(d,)`` int8 values and float32
scales, one for every 128, that stands for their products, rounded to float32. Weights are rounded
to 29 significant bits, so that a product with a value is exact; sums are float64 in the order of
the rows, scaled ones a few at a time (``reference_rows``), and are rounded to float32 once; every
NaN that is written is the one quiet NaN ``0x7fc00000``. Rounding is to nearest even, nothing is
contracted, denormals are kept: the native twin sees to that, NumPy is left in the mode in which the
caller's thread is, as ``torch.set_flush_denormal`` changes it. ``_threads`` only keeps the
signatures alike.
"""

from collections.abc import Callable, Sequence

import numpy as np

from llmagentos.kernels.reference_robust import (  # noqa: F401 (the rest of the twin)
    inner_products,
    ring_sum,
    squared_distances,
    trimmed_mean,
)
from llmagentos.kernels.reference_rows import (
    exact_weight,  # noqa: F401 (as above)
    weighted_rows,
)
from llmagentos.kernels.reference_sums import (
    Float32s,
    Float64s,
    Row,
    Stats,
    inspect,  # noqa: F401 (as above)
    inspect_all,
    narrow,
)

Vectors = Sequence[Float32s]
Rates = Sequence[float]


@np.errstate(all="ignore")
def weighted_sum(
    out: Float32s, rows: Sequence[Row], weights: Sequence[float], _threads: int = 1
) -> Stats:
    """``out[j] = sum_k weights[k] * rows[k][j]``; each row's squared norm and bad values."""
    out[:] = narrow(weighted_rows(out.size, rows, weights))
    return inspect_all(rows)


@np.errstate(all="ignore")
def average_step(
    out: Float32s,
    anchor: Float32s,
    lr: float,
    rows: Sequence[Row],
    weights: Sequence[float],
    _threads: int = 1,
) -> Stats:
    """``out[j] = anchor[j] + lr * sum_k weights[k] * rows[k][j]``; as ``weighted_sum`` else."""
    sums = weighted_rows(out.size, rows, weights)
    out[:] = narrow(anchor.astype(np.float64) + lr * sums)
    return inspect_all(rows)


@np.errstate(all="ignore")
def momentum_step(out: Vectors, before: Vectors, rates: Rates, _threads: int = 1) -> None:
    """``m = beta m + delta``, ``w += lr m``: ``before`` is (w, m, delta), ``out`` is (m, w).

    ``rates`` is (lr, beta). Hsu et al. 2019, arXiv:1909.06335.
    """
    lr, beta = rates
    w, m, delta = (vector.astype(np.float64) for vector in before)
    out[0][:] = narrow(beta * m + delta)
    out[1][:] = narrow(w + lr * out[0].astype(np.float64))


AverageAndStep = Callable[[Vectors, Vectors, Rates, Sequence[Row], Sequence[float], int], Stats]
SecondMoment = Callable[[Float64s, Float64s, float], Float64s]


@np.errstate(all="ignore")
def _adaptive_step(
    second_moment: SecondMoment, out: Vectors, before: Vectors, rates: Rates
) -> None:
    """Reddi et al. 2021, arXiv:2003.00295, Algorithm 2; w comes from the rounded m and v.

    The root and the quotient are float32's, all else is float64's.
    """
    lr, beta1, beta2, tau = rates
    w, m, v, delta = (vector.astype(np.float64) for vector in before)
    out[0][:] = narrow(beta1 * m + (1.0 - beta1) * delta)
    out[1][:] = narrow(second_moment(v, delta * delta, beta2))
    out[2][:] = narrow(w + lr * _step_along(out[0], out[1], tau))


def _step_along(m: Float32s, v: Float32s, small: float) -> Float64s:
    return (m / (np.sqrt(v) + np.float32(small))).astype(np.float64)


def _adam(v: Float64s, square: Float64s, beta2: float) -> Float64s:
    return beta2 * v + (1.0 - beta2) * square


def _yogi(v: Float64s, square: Float64s, beta2: float) -> Float64s:
    return v - (1.0 - beta2) * square * np.sign(v - square)


def _adagrad(v: Float64s, square: Float64s, _beta2: float) -> Float64s:
    return v + square


def adam_step(out: Vectors, before: Vectors, rates: Rates, _threads: int = 1) -> None:
    """FedAdam: ``before`` is (w, m, v, delta), ``out`` (m, v, w), rates (lr, beta1, beta2, tau)."""
    _adaptive_step(_adam, out, before, rates)


def yogi_step(out: Vectors, before: Vectors, rates: Rates, _threads: int = 1) -> None:
    """FedYogi; arguments as in ``adam_step``."""
    _adaptive_step(_yogi, out, before, rates)


def adagrad_step(out: Vectors, before: Vectors, rates: Rates, _threads: int = 1) -> None:
    """FedAdagrad; arguments as in ``adam_step``, beta2 without meaning."""
    _adaptive_step(_adagrad, out, before, rates)


def _average_and(step: Callable[[Vectors, Vectors, Rates], None]) -> AverageAndStep:
    """The step whose delta is the weighted sum of the rows, rounded to float32."""

    def average_and_step(
        out: Vectors,
        before: Vectors,
        rates: Rates,
        rows: Sequence[Row],
        weights: Sequence[float],
        _threads: int = 1,
    ) -> Stats:
        delta = np.empty(before[0].size, np.float32)
        stats = weighted_sum(delta, rows, weights)
        step(out, [*before, delta], rates)
        return stats

    return average_and_step


average_momentum_step = _average_and(momentum_step)
average_adam_step = _average_and(adam_step)
average_yogi_step = _average_and(yogi_step)
average_adagrad_step = _average_and(adagrad_step)


@np.errstate(all="ignore")
def proximal(
    gradient: Float32s, weights: Float32s, anchor: Float32s, mu: float, _threads: int = 1
) -> None:
    """``gradient += mu * (weights - anchor)`` in float64, rounded, in place.

    Li et al. 2020, arXiv:1812.06127, equation 2.
    """
    pull = mu * (weights.astype(np.float64) - anchor.astype(np.float64))
    gradient[:] = narrow(gradient.astype(np.float64) + pull)


@np.errstate(all="ignore")
def train_step(
    training: Vectors, gradient: Float32s, scale: float, rates: Rates, _threads: int = 1
) -> None:
    """AdamW along ``scale * gradient``; ``training`` is (w, m, v), in place.

    ``rates`` is (beta1, beta2, r epsilon, 1 - lr decay, r lr / (1 - beta1^t)), where r is the root
    of 1 - beta2^t. Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2; w comes from the
    rounded m and v, with root and quotient in float32.
    """
    beta1, beta2, small, keep, step_size = rates
    w, m, v = (vector.astype(np.float64) for vector in training)
    scaled = scale * gradient.astype(np.float64)
    training[1][:] = narrow(beta1 * m + (1.0 - beta1) * scaled)
    training[2][:] = narrow(beta2 * v + (1.0 - beta2) * (scaled * scaled))
    training[0][:] = narrow(keep * w - step_size * _step_along(training[1], training[2], small))
