"""A step of an agent's local training over flat vectors: pull, clip and AdamW."""

from dataclasses import dataclass
from math import sqrt

from llmagentos.kernels import arrays, device
from llmagentos.kernels.arrays import ArrayOrTensor
from llmagentos.kernels.launch import takes
from llmagentos.kernels.steps import proximal
from llmagentos.kernels.twin import twin


@dataclass(frozen=True)
class AdamW:
    """What AdamW is told; the names are torch's, but for ``decay``, its ``weight_decay``."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: float = 0.0

    def at(self, step: int) -> tuple[float, ...]:
        """The rates of the step with that number, as the kernels take them; steps count from 1."""
        if step < 1:
            raise ValueError(f"step={step}; steps count from 1")
        root = sqrt(1 - self.beta2**step)
        keep, size = 1 - self.lr * self.decay, self.lr / (1 - self.beta1**step)
        return self.beta1, self.beta2, root * self.epsilon, keep, root * size


def clip_scale(squared_norm: float, clip: float) -> float:
    """What a gradient is multiplied by so that its norm is at most ``clip``; 0 clips nothing."""
    scale = clip / (sqrt(squared_norm) + 1e-6)
    return 1.0 if clip == 0 or scale > 1 else scale


def train_step(  # noqa: PLR0913 (keyword-only)
    weights: ArrayOrTensor,
    m: ArrayOrTensor,
    v: ArrayOrTensor,
    gradient: ArrayOrTensor,
    *,
    step: int,
    rates: AdamW,
    clip: float = 0.0,
    anchor: ArrayOrTensor | None = None,
    mu: float = 0.0,
    threads: int | None = None,
) -> None:
    """One step of AdamW in place, along the gradient that is pulled to the anchor and clipped.

    All are ``(d,)`` float32. The gradient is left with ``mu * (weights - anchor)`` added; its scale
    to a norm of at most ``clip`` is taken within the step. m, v and the weights are computed in
    float64, but for a root and a quotient in float32, and rounded once each: what
    ``torch.optim.AdamW`` computes, to a few roundings of float32. On a CUDA device this is two
    launches, and nothing waits for them. Raises ``ValueError`` for a wrong type or length, or one
    vector over another; then all are as they were.
    Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2.
    """
    if mu and anchor is None:
        raise ValueError(f"mu={mu} needs an anchor to pull to")
    training = {"weights": weights, "m": m, "v": v, "gradient": gradient}
    rates_here = rates.at(step)
    if takes(weights):
        device.train_step(training, anchor, mu, clip, rates_here)
        return
    size = arrays.vector("weights", weights).size
    pull = {} if anchor is None else {"anchor": arrays.vector("anchor", anchor, size)}
    *changed, along = arrays.outputs(training, size, pull)
    count = arrays.threads_for(4 * along.nbytes, threads)
    if mu:
        proximal(along, changed[0], pull["anchor"], mu, threads=threads)
    scale = clip_scale(twin.inspect(along, count)[0], clip) if clip else 1.0
    twin.train_step(changed, along, scale, rates_here, count)
