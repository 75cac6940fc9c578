"""FedProx's pull on the parameters of any model: Li et al. 2020, arXiv:1812.06127, equation 2."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from llmagentos import kernels


def pull_to_here(parameters: Sequence[nn.Parameter], mu: float) -> Callable[[], None]:
    """Adds ``mu * (parameter - anchor)`` to every gradient; the anchor is what is held here.

    As if ``mu / 2 * |parameters - anchor|^2`` were part of the loss, so parameters that the loss
    does not reach have a gradient as well. ``mu = 0`` does nothing.
    """
    if mu == 0:
        return lambda: None
    anchor, sizes = _flat(parameters), [parameter.numel() for parameter in parameters]

    def pull() -> None:
        gradient = _flat(torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        kernels.proximal(gradient, _flat(parameters), anchor, mu)
        for parameter, piece in zip(parameters, torch.split(gradient, sizes), strict=True):
            parameter.grad = piece.view(parameter.shape).to(parameter)

    return pull


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """The values of all tensors one after the other, ``(d,)`` float32, a copy."""
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
