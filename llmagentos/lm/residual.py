"""Products that a method has added to the base, computed beside it and never merged."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from llmagentos.adapter import refit
from llmagentos.layout import Layout, Vector
from llmagentos.lm.lora import lora_layers
from llmagentos.messages import Task

Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


@contextmanager
def beside(model: PeftModel, layout: Layout, residual: Vector | None) -> Iterator[None]:
    """Every adapted layer's base adds ``scale * B A x`` of the residual inside; nothing for None.

    ``residual`` has the pairs of the layout at a rank of its own. The base keeps its bits and its
    type, be it of four bits, and whoever calls it, the adapter of one agent or the stacked ones of
    many, gets the sum. The way a layer stores its weight does not matter.
    """
    hooks = [] if residual is None else _hooks(model, layout, residual)
    handles = [layer.register_forward_hook(hook) for layer, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def residual_of(task: Task, layout: Layout) -> Vector | None:
    """The task's residual for the pairs of a layout that the task's lies within."""
    residual = task.vectors.get("residual")
    if residual is None:
        return None
    own = task.layout.fitting(residual)
    return refit(residual, own, layout.factors.ranked(own.pairs[0].rank))


def _hooks(model: PeftModel, layout: Layout, residual: Vector) -> list[tuple[nn.Module, Hook]]:
    ranked = layout.fitting(residual)
    tensors = ranked.split(residual)
    layers = lora_layers(model)
    found = []
    for pair in ranked.pairs:
        down = torch.tensor(tensors[pair.a], device=model.device)
        up = torch.tensor(tensors[pair.b], device=model.device) * pair.scale
        found.append(
            (layers[pair.layer].get_base_layer(), _added(down, up, looked_up=pair.looked_up))
        )
    return found


def _added(down: Tensor, up: Tensor, *, looked_up: bool) -> Hook:
    """What adds ``up (out, r)`` times ``down (r, in)`` times the input to a layer's output.

    Where it is looked up, the input is the number of a column of ``down``.
    """

    def hook(_layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        low = down.mT[inputs[0]] if looked_up else inputs[0].to(down.dtype) @ down.mT
        added: Tensor = output + (low @ up.mT).to(output.dtype)
        return added

    return hook
