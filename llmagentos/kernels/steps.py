"""The server's optimizers and the agents' proximal correction over flat vectors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmagentos.kernels import arrays, device
from llmagentos.kernels.arrays import ArrayOrTensor
from llmagentos.kernels.launch import holds, takes
from llmagentos.kernels.twin import twin

Vector = NDArray[np.float32]
Rates = tuple[float, ...]


class Momentum(NamedTuple):
    """The state after a step with momentum: ``(d,)`` float32 each."""

    m: Vector
    w: Vector


class Adaptive(NamedTuple):
    """The state after an adaptive step: ``(d,)`` float32 each."""

    m: Vector
    v: Vector
    w: Vector


def inputs(**named: ArrayOrTensor) -> dict[str, Vector]:
    """The named vectors, all of the length of the first."""
    size = arrays.host(next(iter(named.values()))).size
    return {name: arrays.vector(name, value, size) for name, value in named.items()}


def room(count: int, out: Sequence[ArrayOrTensor] | None) -> Sequence[ArrayOrTensor | None]:
    """What was given as ``out``, or None for each vector that is asked for."""
    if out is not None and len(out) != count:
        raise ValueError(f"out has {len(out)} vectors; needs {count}")
    return (None,) * count if out is None else out


def outputs(given: Sequence[ArrayOrTensor | None], before: dict[str, arrays.Array]) -> list[Vector]:
    """Writable vectors, one for each given, that overlap neither ``before`` nor each other."""
    named = {f"out[{k}]": value for k, value in enumerate(given)}
    return arrays.outputs(named, next(iter(before.values())).size, before)


def momentum_step(  # noqa: PLR0913 (keyword-only)
    anchor: ArrayOrTensor,
    m: ArrayOrTensor,
    delta: ArrayOrTensor,
    *,
    lr: float,
    beta: float,
    out: tuple[ArrayOrTensor, ArrayOrTensor] | None = None,
    threads: int | None = None,
) -> Momentum:
    """``m = beta m + delta; w = anchor + lr m``: FedAvgM; ``beta = 0`` and ``lr = 1`` is FedAvg.

    All are ``(d,)`` float32; each result is computed in float64 and rounded once, and w uses the
    rounded m. Hsu et al. 2019, arXiv:1909.06335.
    """
    before = {"anchor": anchor, "m": m, "delta": delta}
    return Momentum(*_step("momentum_step", before, (lr, beta), out, threads))


def _step(
    name: str,
    before: dict[str, ArrayOrTensor],
    rates: Rates,
    out: Sequence[ArrayOrTensor] | None,
    threads: int | None,
) -> list[Vector]:
    """What the twin's step of that name leaves: one vector less than it takes."""
    given = room(len(before) - 1, out)
    if takes(before["anchor"]):
        return device.step(name, before, rates, given)
    checked = inputs(**before)
    after = outputs(given, checked)
    count = arrays.threads_for(sum(vector.nbytes for vector in checked.values()), threads)
    getattr(twin, name)(after, list(checked.values()), rates, count)
    return after


def adam_step(  # noqa: PLR0913 (keyword-only)
    anchor: ArrayOrTensor,
    m: ArrayOrTensor,
    v: ArrayOrTensor,
    delta: ArrayOrTensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    tau: float,
    out: tuple[ArrayOrTensor, ArrayOrTensor, ArrayOrTensor] | None = None,
    threads: int | None = None,
) -> Adaptive:
    """FedAdam: ``v = beta2 v + (1 - beta2) delta^2``; ``w = anchor + lr m / (sqrt(v) + tau)``.

    ``m = beta1 m + (1 - beta1) delta``. There is no bias correction; the caller starts m at 0 and v
    at ``tau ** 2``. All are ``(d,)`` float32; m, v and w are computed in float64 and rounded once,
    and w uses the rounded m and v, with ``m / (sqrt(v) + tau)`` in float32. Inputs stay as they
    are; ``out`` is (m, v, w).
    Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    """
    before = {"anchor": anchor, "m": m, "v": v, "delta": delta}
    return Adaptive(*_step("adam_step", before, (lr, beta1, beta2, tau), out, threads))


def yogi_step(  # noqa: PLR0913 (keyword-only)
    anchor: ArrayOrTensor,
    m: ArrayOrTensor,
    v: ArrayOrTensor,
    delta: ArrayOrTensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    tau: float,
    out: tuple[ArrayOrTensor, ArrayOrTensor, ArrayOrTensor] | None = None,
    threads: int | None = None,
) -> Adaptive:
    """FedYogi: ``adam_step`` with ``v = v - (1 - beta2) delta^2 sign(v - delta^2)``."""
    before = {"anchor": anchor, "m": m, "v": v, "delta": delta}
    return Adaptive(*_step("yogi_step", before, (lr, beta1, beta2, tau), out, threads))


def adagrad_step(  # noqa: PLR0913 (keyword-only)
    anchor: ArrayOrTensor,
    m: ArrayOrTensor,
    v: ArrayOrTensor,
    delta: ArrayOrTensor,
    *,
    lr: float,
    beta1: float = 0.0,
    tau: float,
    out: tuple[ArrayOrTensor, ArrayOrTensor, ArrayOrTensor] | None = None,
    threads: int | None = None,
) -> Adaptive:
    """FedAdagrad: ``adam_step`` with ``v = v + delta^2``."""
    before = {"anchor": anchor, "m": m, "v": v, "delta": delta}
    return Adaptive(*_step("adagrad_step", before, (lr, beta1, 0.0, tau), out, threads))


def proximal(
    gradient: ArrayOrTensor,
    weights: ArrayOrTensor,
    anchor: ArrayOrTensor,
    mu: float,
    *,
    threads: int | None = None,
) -> None:
    """``gradient += mu * (weights - anchor)`` in place, ``(d,)`` float32; ``mu = 0`` does nothing.

    Each value is computed in float64 and rounded once; tensors on a device without kernels of ours
    use their own float32 arithmetic there. Li et al. 2020, arXiv:1812.06127, equation 2.
    """
    if mu == 0:
        return
    if holds(gradient):
        device.proximal(gradient, weights, anchor, mu)
        return
    if arrays.on_device(gradient):
        gradient.add_(weights.detach() - anchor, alpha=mu)
        return
    before = inputs(weights=weights, anchor=anchor)
    target = arrays.output("gradient", gradient, before["weights"].size, before)
    count = arrays.threads_for(3 * target.nbytes, threads)
    twin.proximal(target, before["weights"], before["anchor"], mu, count)
