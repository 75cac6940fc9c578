"""What may enter a kernel: flat vectors of one length, in host memory, of a known type.

Tensors are recognised without importing torch: where one exists, torch is loaded already.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from llmagentos.scaled import ScaledRow, groups

Array = NDArray[Any]
ArrayOrTensor = Any
"""A NumPy array or a torch tensor."""
RowLike = ArrayOrTensor | ScaledRow

ROW_TYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
WEIGHT_LIMIT = 2.0**800
"""A larger weight times a float32 could overflow float64."""
BYTES_PER_THREAD = 32 * 2**20
"""Below twice this much input a second thread costs more than it brings."""


def is_tensor(value: ArrayOrTensor) -> bool:
    """Whether the value is a torch tensor."""
    # While another thread imports torch, it is there without its names.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def on_device(value: ArrayOrTensor) -> bool:
    """Whether the value is a torch tensor outside host memory."""
    return is_tensor(value) and value.device.type != "cpu"


def host(value: ArrayOrTensor) -> Array:
    """The value as a NumPy array: a view in host memory, a copy of a tensor on a device."""
    if not is_tensor(value):
        return np.asanyarray(value)
    tensor = value.detach().cpu()
    torch = sys.modules["torch"]
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def row(
    name: str,
    value: ArrayOrTensor,
    size: int | None = None,
    types: Sequence[np.dtype[Any]] = ROW_TYPES,
) -> Array:
    """A contiguous ``(d,)`` row of one of the types, at any address; else ``ValueError``."""
    array = host(value)
    if array.dtype not in types:
        needed = " or ".join(map(str, types))
        raise ValueError(f"{name} is {array.dtype}; needs to be {needed}")
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} has shape {array.shape} and strides {array.strides}; "
            "needs to be one contiguous vector"
        )
    if size is not None and array.size != size:
        raise ValueError(f"{name} has {array.size} values; needs {size}")
    return array


def scaled_row(name: str, parts: Sequence[ArrayOrTensor]) -> ScaledRow:
    """The row of int8 values and their float32 scales; else ``ValueError``."""
    if len(parts) != 2:
        raise ValueError(f"{name} has {len(parts)} parts; needs int8 values and their scales")
    q = row(name, parts[0], types=(np.dtype(np.int8),))
    scale = row(f"the scale of {name}", parts[1], groups(q.size), (np.dtype(np.float32),))
    return ScaledRow(q, scale)


def row_in_place(name: str, value: RowLike, size: int | None = None) -> Array | ScaledRow:
    """A row as in ``row``, or a scaled one of that length, for a pair of its tensors too."""
    if isinstance(value, tuple):
        value = scaled_row(name, value)
    if not isinstance(value, ScaledRow):
        return row(name, value, size)
    if size is not None and len(value) != size:
        raise ValueError(f"{name} has {len(value)} values; needs {size}")
    return value


def rows_in_place(values: Sequence[RowLike], size: int | None = None) -> list[Array | ScaledRow]:
    """Rows of one length: the given one, else that of the first."""
    checked: list[Array | ScaledRow] = []
    for k, value in enumerate(values):
        checked.append(row_in_place(f"rows[{k}]", value, size))
        size = len(checked[0])
    return checked


def named(rows: Sequence[Array | ScaledRow]) -> dict[str, Array]:
    """The arrays that rows lie in, by what an error calls them."""
    lying: dict[str, Array] = {}
    for k, row in enumerate(rows):
        if isinstance(row, ScaledRow):
            lying |= {f"rows[{k}]": row.q, f"the scale of rows[{k}]": row.scale}
        else:
            lying[f"rows[{k}]"] = row
    return lying


def passed(rows: Sequence[Array | ScaledRow]) -> list[Any]:
    """Rows as the twins take them: an array, or a pair of values and scales."""
    return [(row.q, row.scale) if isinstance(row, ScaledRow) else row for row in rows]


def vector(name: str, value: ArrayOrTensor, size: int | None = None) -> NDArray[np.float32]:
    """A contiguous aligned ``(d,)`` float32 vector; else ``ValueError``."""
    array = host(value)
    if array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype}; needs to be float32")
    if not array.flags.aligned:
        raise ValueError(f"{name} is not aligned to 4 bytes; copy it first")
    return row(name, array, size)


def output(
    name: str, value: ArrayOrTensor | None, size: int, inputs: Mapping[str, Array]
) -> NDArray[np.float32]:
    """A writable ``(size,)`` float32 vector that overlaps no input; a fresh one for None."""
    if value is None:
        return np.empty(size, np.float32)
    if on_device(value):
        raise ValueError(f"{name} is a tensor on {value.device}; needs to be in host memory")
    array = vector(name, value, size)
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    for other, values in inputs.items():
        if np.may_share_memory(array, values):
            raise ValueError(f"{name} overlaps {other}; give it memory of its own")
    return array


def outputs(
    given: Mapping[str, ArrayOrTensor | None], size: int, inputs: Mapping[str, Array]
) -> list[NDArray[np.float32]]:
    """Outputs as in ``output``, by name, that do not overlap each other either."""
    taken = dict(inputs)
    for name, value in given.items():
        taken[name] = output(name, value, size, taken)
    return [taken[name] for name in given]


def weights_of(values: Sequence[float], count: int) -> list[float]:
    """As many float64 weights as there are rows, none beyond ``WEIGHT_LIMIT``."""
    weights = [float(value) for value in values]
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} rows")
    for k, weight in enumerate(weights):
        if not abs(weight) <= WEIGHT_LIMIT:
            raise ValueError(f"weights[{k}]={weight}; needs to be finite and at most 2 ** 800")
    return weights


def threads_for(size_bytes: int, threads: int | None) -> int:
    """The given number; for None one per 32 MiB of input, at most those this program may use."""
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads={threads}; needs to be at least 1")
        return threads
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(usable, size_bytes // BYTES_PER_THREAD))
