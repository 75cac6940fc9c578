"""The adapters of many agents in one forward pass over one frozen model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from llmagentos.layout import Layout
from llmagentos.lm.lora import ADAPTER, lora_layers
from llmagentos.lm.quantized import quantized_kinds

Forward = Callable[[Tensor], Tensor]


class StackedAdapter:
    """``n`` adapters as the rows of ``(n, d)`` float32 matrices, ``values`` and ``gradient``.

    ``start`` is what the values are at first, and ``part`` the columns that are trained. Inside
    ``on`` a model takes batches in which the rows of the first agent come first, then as many of
    the second, and so on. The base is applied once to all of them, the factors A ``(n, r, in)`` and
    B ``(n, out, r)``, which are views of ``values``, to each agent's own.
    """

    def __init__(self, layout: Layout, start: Tensor, part: slice = slice(None)) -> None:
        self.part = part
        self.values = start.clone()
        self.gradient = torch.zeros_like(start)
        self._layout = layout
        self._factors: dict[str, Tensor] = {}
        self._gradients: list[Tensor] = []
        self._agents, self._positions = 0, 0

    def expect(self, agents: int, positions: int) -> None:
        """The next batch has this many positions, of the first so many agents."""
        if agents != self._agents:
            values = self._pieces(self.values[:agents])
            self._factors = {name: piece.requires_grad_() for name, piece in values.items()}
            self._gradients = list(self._pieces(self.gradient[:agents]).values())
        self._agents, self._positions = agents, positions

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar to the rows of the agents in the batch."""
        found = torch.autograd.grad(loss, list(self._factors.values()))
        for rows, gradient in zip(self._gradients, found, strict=True):
            rows.add_(gradient)

    def _pieces(self, matrix: Tensor) -> dict[str, Tensor]:
        """Views of a matrix's columns as the tensors that the layout names, ``(n, ...)``."""
        sizes = [prod(shape) for shape in self._layout.shapes]
        pieces = torch.split(matrix, sizes, dim=1)
        named = zip(self._layout.names, self._layout.shapes, pieces, strict=True)
        return {name: piece.view(len(matrix), *shape) for name, shape, piece in named}

    @contextmanager
    def on(self, model: PeftModel) -> Iterator[None]:
        """The model's LoRA layers compute with the stack inside and are themselves again after."""
        layers = lora_layers(model)
        try:
            for name, layer in layers.items():
                vars(layer)["forward"] = self._forward_of(name, layer)
            yield
        finally:
            for layer in layers.values():
                vars(layer).pop("forward", None)

    def _forward_of(self, name: str, layer: LoraLayer) -> Forward:
        """What a layer does to ``(..., in)``: ``base(x) + scale * B A drop(x)``, agent by agent."""
        base, drop, scale = layer.base_layer, layer.lora_dropout[ADAPTER], layer.scaling[ADAPTER]
        # Autograd guards what a packed layer gives; elsewhere the sum in its place saves a copy.
        packed = (type(layer), type(base)) in quantized_kinds()
        add = Tensor.baddbmm if packed else Tensor.baddbmm_

        def forward(x: Tensor) -> Tensor:
            if x.numel() != self._positions * x.shape[-1]:
                raise RuntimeError(f"{name} is given other positions than all those of the batch")
            a, b = (self._factors[f"{name}.lora_{factor}.weight"] for factor in "AB")
            inputs = x.reshape(self._agents, -1, x.shape[-1])
            out: Tensor = base(inputs)
            low = drop(inputs.to(a.dtype)) @ a.mT
            wide = add(out.to(low.dtype), low, b.mT.to(low.dtype), alpha=scale)
            return wide.to(out.dtype).view(*x.shape[:-1], out.shape[-1])

        return forward
