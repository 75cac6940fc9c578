"""The adapter's tensors as views of one vector, their gradients as views of another."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

REMEDY = "bind the adapter after the model is placed and cast, and wrap or move neither afterwards"


class FlatAdapter:
    """A model's adapter as two ``(d,)`` float32 vectors, ``vector`` and ``gradient``.

    The parameters keep their values and lie one after the other in ``vector``; backward passes
    add to ``gradient``. An optimizer over ``[vector]`` thus trains the model, and loading an
    adapter, reading a change or correcting a gradient is one operation. Whoever trains zeroes
    ``gradient``: an optimizer's ``zero_grad`` would take it away from the parameters.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        assert all(p.dtype == torch.float32 for p in parameters.values())
        tensors = list(parameters.values())
        self.vector = nn.Parameter(torch.cat([p.detach().flatten() for p in tensors]))
        self.gradient = torch.zeros_like(self.vector, requires_grad=False)
        self.vector.grad = self.gradient
        self._values = _views(self.vector.detach(), tensors)
        self._gradients = _views(self.gradient, tensors)
        for parameter, value, gradient in zip(tensors, self._values, self._gradients, strict=True):
            parameter.data = value
            parameter.grad = gradient.detach()

    def load(self, values: Tensor) -> None:
        """Copy a ``(d,)`` adapter into the model."""
        with torch.no_grad():
            self.vector.copy_(values)

    def piece(self, where: slice) -> nn.Parameter:
        """The values at a place, with their gradient, for an optimizer that leaves all others."""
        if where == slice(0, self.vector.numel()):
            return self.vector
        piece = nn.Parameter(self.vector.detach()[where])
        piece.grad = self.gradient[where]
        return piece

    def check(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Assert that the model's parameters and gradients still lie in the two vectors.

        What takes them out raises no error by itself, the model merely stops to learn: moving or
        casting the model, ``zero_grad(set_to_none=True)``, ``vector.data = ...``, and a
        distributed wrapper that keeps gradients in buckets of its own.
        """
        assert _same_memory(self.vector, self._values, self.gradient, self._gradients), (
            f"the flat vector or its gradient was replaced instead of written into; {REMEDY}"
        )
        memory = zip(self._values, self._gradients, strict=True)
        for (name, parameter), (value, gradient) in zip(parameters.items(), memory, strict=True):
            assert _same_place(parameter, value), f"{name} left the flat vector; {REMEDY}"
            assert parameter.grad is not None, f"the gradient of {name} was dropped; {REMEDY}"
            assert _same_place(parameter.grad, gradient), f"{name}'s gradient moved; {REMEDY}"


def _views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a ``(d,)`` vector in the shapes of the given tensors."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]


def _same_memory(
    vector: nn.Parameter, values: list[Tensor], gradient: Tensor, gradients: list[Tensor]
) -> bool:
    return (
        vector.grad is gradient
        and vector.data_ptr() == values[0].data_ptr()
        and gradient.data_ptr() == gradients[0].data_ptr()
    )


def _same_place(tensor: Tensor, view: Tensor) -> bool:
    def place(t: Tensor) -> tuple[object, ...]:
        return t.data_ptr(), t.device, t.dtype, t.shape, t.stride()

    return place(tensor) == place(view)
