"""What may enter a kernel on a device: flat tensors of one length, beside each other there."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmagentos.kernels.arrays import ArrayOrTensor, is_tensor
from llmagentos.scaled import groups

Tensor = Any
"""A torch tensor; torch is not imported here."""

ROW_TYPES = ("float32", "float16", "bfloat16")


def kind_of(tensor: Tensor) -> str:
    """The type of the values, as in ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class DeviceRow:
    """A row as it lies on a device."""

    values: Tensor
    scales: Tensor | None = None
    """One for every 128 int8 values."""

    def entry(self) -> tuple[int, str, int]:
        """Its address, type, and the address of its scales or 0."""
        scales = 0 if self.scales is None else self.scales.data_ptr()
        return self.values.data_ptr(), kind_of(self.values), scales


def vector(
    name: str,
    value: ArrayOrTensor,
    like: Tensor,
    types: Sequence[str] = ("float32",),
    size: int | None = None,
) -> Tensor:
    """A contiguous ``(d,)`` tensor of one of the types on the device of ``like``, as long as that
    where no size is given.
    """
    size = len(like) if size is None else size
    place = value.device if is_tensor(value) else "the host"
    if place != like.device:
        raise ValueError(f"{name} is on {place}; needs to be on {like.device} as the others are")
    if kind_of(value) not in types:
        raise ValueError(f"{name} is {kind_of(value)}; needs to be {' or '.join(types)}")
    if value.dim() != 1 or not value.is_contiguous():
        raise ValueError(f"{name} has shape {tuple(value.shape)}; needs to be one dense vector")
    if len(value) != size:
        raise ValueError(f"{name} has {len(value)} values; needs {size}")
    return value.detach()


def vectors(named: Mapping[str, ArrayOrTensor]) -> dict[str, Tensor]:
    """The named float32 vectors, all beside the first."""
    first = next(iter(named.values()))
    return {name: vector(name, value, first) for name, value in named.items()}


def row(name: str, value: Any, like: Tensor) -> DeviceRow:
    """A row beside ``like``: a tensor, or a pair of int8 values and float32 scales."""
    if not isinstance(value, tuple):
        return DeviceRow(vector(name, value, like, ROW_TYPES))
    if len(value) != 2:
        raise ValueError(f"{name} has {len(value)} parts; needs int8 values and their scales")
    values, scales = value
    return DeviceRow(
        vector(name, values, like, ("int8",)),
        vector(f"the scale of {name}", scales, like, size=groups(len(like))),
    )


def rows(values: Sequence[Any], like: Tensor) -> list[DeviceRow]:
    """Rows, all beside ``like``."""
    return [row(f"rows[{k}]", value, like) for k, value in enumerate(values)]


def named(rows: Sequence[DeviceRow]) -> dict[str, Tensor]:
    """The tensors that rows lie in, by what an error calls them."""
    lying = {f"rows[{k}]": row.values for k, row in enumerate(rows)}
    for k, row in enumerate(rows):
        if row.scales is not None:
            lying[f"the scale of rows[{k}]"] = row.scales
    return lying


def values_of(row: Any) -> Any:
    """The row itself, or the values of a pair."""
    return row[0] if isinstance(row, tuple) else row


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
    given: Mapping[str, ArrayOrTensor | None], like: Tensor, inputs: Mapping[str, Tensor]
) -> list[Tensor]:
    """Outputs as in ``output``, by name, that do not overlap each other either."""
    taken = dict(inputs)
    for name, value in given.items():
        taken[name] = output(name, value, like, taken)
    return [taken[name] for name in given]


def _overlap(one: Tensor, other: Tensor) -> bool:
    first, second = sorted(
        (each.data_ptr(), each.data_ptr() + each.nbytes) for each in (one, other)
    )
    return bool(second[0] < first[1])
