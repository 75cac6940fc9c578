"""What is averaged of a model, as one flat vector."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmagentos.errors import SettingError
from llmagentos.layout import Layout, Vector
from llmagentos.lm.hashing import weights_hash


class ModelWeights:
    """A model's trainable parameters and floating-point buffers as a ``(d,)`` float32 vector.

    Tied parameters count once. Frozen parameters stay out, and so do buffers that are no numbers
    to average: integers, what is not saved with the model, and constants with infinite values,
    such as masks. Those go back to what they held at first whenever a vector is loaded, and
    so do values of float64 buffers, such as times, that no client changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = trainable(model)
        self.device = next(iter(self.parameters.values())).device
        saved = model.state_dict().keys()
        first = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        self.buffers = {n: b for n, b in first.items() if n in saved and _averaged(n, b)}
        self._shared = _names_of_buffers(model)
        self._kept = {n: b for n, b in first.items() if n not in self.buffers}
        tensors = self.parameters | self.buffers
        self.layout = Layout.order({name: tuple(t.shape) for name, t in tensors.items()})

    @cached_property
    def in_buffers(self) -> NDArray[np.bool_]:
        """Which values of the vector are buffers, ``(d,)``."""
        shapes = zip(self.layout.names, self.layout.shapes, strict=True)
        marks = {n: np.full(shape, n in self.buffers, np.float32) for n, shape in shapes}
        return self.layout.join(marks).astype(np.bool_)

    def vector(self) -> Vector:
        """The values that the model holds, rounded to float32."""
        tensors = self.parameters | dict(self.model.named_buffers())
        values = {name: _float32(tensors[name]) for name in self.layout.names}
        return self.layout.join(values)

    @torch.no_grad()
    def load(self, vector: Vector) -> None:
        """The model holds a vector's values, each tensor in its own type and on its device."""
        for name, values in self.layout.split(vector).items():
            if name in self.parameters:
                self.parameters[name].copy_(torch.tensor(values))
            else:
                self._assign(name, _moved(self.buffers[name], torch.tensor(values)))
        for name, buffer in self._kept.items():
            self._assign(name, buffer.clone())

    def _assign(self, name: str, buffer: Tensor) -> None:
        """A buffer is set, not written into: modules may have put another tensor in its place.

        It is set wherever it was at first, so that modules that shared it still do.
        """
        for shared in self._shared[name]:
            owner, _, leaf = shared.rpartition(".")
            setattr(self.model.get_submodule(owner), leaf, buffer)

    def hash(self) -> str:
        """``weights_hash`` of all parameters and buffers."""
        return weights_hash(dict(self.model.named_parameters()) | dict(self.model.named_buffers()))


def _names_of_buffers(model: nn.Module) -> dict[str, list[str]]:
    """By a buffer's first name, as ``named_buffers`` has it, all that it has."""
    names: dict[int, list[str]] = {}
    for name, buffer in model.named_buffers(remove_duplicate=False):
        names.setdefault(id(buffer), []).append(name)
    return {first: [first, *others] for first, *others in names.values()}


@contextmanager
def training_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """All of the model trains, or evaluates, inside; then each part is in its own mode again."""
    modes = [(part, part.training) for part in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _moved(first: Tensor, values: Tensor) -> Tensor:
    """Float32 values in the first ones' type and place; in float64 the first where both agree."""
    moved = values.to(first)
    if first.dtype != torch.float64:
        return moved
    return torch.where(moved == first.float(), first, moved)


def _float32(tensor: Tensor) -> Vector:
    return np.asarray(tensor.detach().float().cpu().numpy())


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, at least one.

    Raises ``SettingError`` for one that cannot be flattened, naming it.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name, parameter in parameters.items():
        _check_parameter(name, parameter)
    if not parameters:
        raise SettingError("model has no trainable parameter: set requires_grad on some")
    return parameters


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    """Raise ``SettingError`` unless the parameter is dense, real and there."""
    if isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.is_meta:
        raise SettingError(f"model: {name} has no values yet; run one batch through the model")
    if parameter.layout != torch.strided or not parameter.is_floating_point():
        kind = f"{parameter.dtype}, {parameter.layout}"
        raise SettingError(
            f"model: {name} ({kind}) cannot be averaged as real numbers; set its requires_grad to "
            "False, or keep it as dense floating-point tensors"
        )


def _averaged(name: str, buffer: Tensor) -> bool:
    """Whether a buffer is averaged; ``SettingError`` where it can be neither averaged nor kept."""
    if buffer.layout != torch.strided or buffer.is_complex():
        raise SettingError(
            f"model: buffer {name} ({buffer.dtype}, {buffer.layout}) cannot be averaged as real "
            "numbers; register it with persistent=False, or keep it as dense real tensors"
        )
    return buffer.is_floating_point() and bool(torch.isfinite(buffer).all())
