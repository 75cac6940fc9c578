"""What may enter a kernel on a device: flat tensors of one length, beside each other there."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llmagentos.kernels.arrays import ArrayOrTensor, is_tensor

Tensor = Any
"""A torch tensor; torch is not imported here."""

ROW_TYPES = ("float32", "float16", "bfloat16")


def kind_of(tensor: Tensor) -> str:
    """The type of the values, as in ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def vector(
    name: str, value: ArrayOrTensor, like: Tensor, types: Sequence[str] = ("float32",)
) -> Tensor:
    """A contiguous ``(d,)`` tensor of one of the types, as long as ``like`` and on its device."""
    place = value.device if is_tensor(value) else "the host"
    if place != like.device:
        raise ValueError(f"{name} is on {place}; needs to be on {like.device} as the others are")
    if kind_of(value) not in types:
        raise ValueError(f"{name} is {kind_of(value)}; needs to be {' or '.join(types)}")
    if value.dim() != 1 or not value.is_contiguous():
        raise ValueError(f"{name} has shape {tuple(value.shape)}; needs to be one dense vector")
    if len(value) != len(like):
        raise ValueError(f"{name} has {len(value)} values; needs {len(like)}")
    return value.detach()


def vectors(named: Mapping[str, ArrayOrTensor]) -> dict[str, Tensor]:
    """The named float32 vectors, all beside the first."""
    first = next(iter(named.values()))
    return {name: vector(name, value, first) for name, value in named.items()}


def rows(values: Sequence[ArrayOrTensor], like: Tensor) -> list[Tensor]:
    """Rows of the row types, all beside ``like``."""
    return [vector(f"rows[{k}]", value, like, ROW_TYPES) for k, value in enumerate(values)]


def output(
    name: str, value: ArrayOrTensor | None, like: Tensor, inputs: Mapping[str, Tensor]
) -> Tensor:
    """A float32 vector as long as ``like`` that overlaps no input; a fresh one for None."""
    if value is None:
        torch = sys.modules["torch"]
        return torch.empty(len(like), dtype=torch.float32, device=like.device)
    tensor = vector(name, value, like)
    for other, taken in inputs.items():
        if _overlap(tensor, taken):
            raise ValueError(f"{name} overlaps {other}; give it memory of its own")
    return tensor


def outputs(
    given: Sequence[ArrayOrTensor | None], like: Tensor, inputs: Mapping[str, Tensor]
) -> list[Tensor]:
    """Float32 vectors, one for each that is given, that overlap neither inputs nor each other."""
    taken = dict(inputs)
    for k, value in enumerate(given):
        taken[f"out[{k}]"] = output(f"out[{k}]", value, like, taken)
    return list(taken.values())[len(inputs) :]


def _overlap(one: Tensor, other: Tensor) -> bool:
    first, second = sorted(
        (each.data_ptr(), each.data_ptr() + each.nbytes) for each in (one, other)
    )
    return bool(second[0] < first[1])
