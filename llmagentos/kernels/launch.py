"""How work reaches a CUDA device: the CUDA twin, torch's stream, and what a pass leaves.

torch is not imported: where there is a tensor on a device, it is loaded already.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from llmagentos.kernels import arrays
from llmagentos.kernels.tensors import DeviceRow, Tensor, values_of

Stats = tuple[tuple[float, ...], tuple[int, ...]]
"""Squared norm and number of bad values of every row."""


@cache
def cuda() -> Any:
    """The CUDA twin, or None where it was not built."""
    try:
        from llmagentos.kernels import _cuda  # noqa: PLC0415 (it may not exist)
    except ImportError:
        return None
    return _cuda


@cache
def _say_that_tensors_are_copied() -> None:
    logging.getLogger(__name__).warning(
        "the CUDA kernels were not built: tensors on a GPU are copied to the host for every pass; "
        "to build them, run `pip install -e . -C cmake.define.LLMAGENTOS_CUDA=ON` where nvcc is"
    )


def on_cuda(value: Any) -> bool:
    """Whether the value is a torch tensor on a CUDA device."""
    return arrays.is_tensor(value) and bool(value.is_cuda)


def holds(row: Any) -> bool:
    """Whether the row or vector lies on a CUDA device and the CUDA twin was built."""
    return on_cuda(values_of(row)) and cuda() is not None


def takes(row: Any) -> bool:
    """``holds``; says once where a CUDA tensor is copied to the host instead."""
    if on_cuda(values_of(row)) and cuda() is None:
        _say_that_tensors_are_copied()
    return holds(row)


def queue(like: Tensor, work: Callable[[int], None]) -> None:
    """Calls work(stream) with torch's current stream of the tensor's device."""
    torch = sys.modules["torch"]
    with torch.cuda.device(like.device):
        work(torch.cuda.current_stream().cuda_stream)


@lru_cache(maxsize=16)
def workspace(device: Any, _stream: int, size: int, rows: int) -> Tensor:
    """Zeros for the passes over so many rows that follow each other on one stream."""
    torch = sys.modules["torch"]
    return torch.zeros(cuda().workspace_bytes(size, rows), dtype=torch.uint8, device=device)


def run_pass(
    like: Tensor,
    rows: Sequence[DeviceRow],
    weights: Sequence[float],
    work: Callable[[Any, int], None],
) -> Stats:
    """Calls work(cohort, stream) and waits for what it tells of the rows."""
    torch = sys.modules["torch"]
    if len(rows) > cuda().row_limit:
        raise ValueError(f"{len(rows)} rows on a device; at most {cuda().row_limit} go in one pass")
    stats = torch.empty((len(rows), 2), dtype=torch.float64, device=like.device)
    entries = [row.entry() for row in rows]

    def call(stream: int) -> None:
        room = workspace(like.device, stream, len(like), len(rows))
        work(cuda().Cohort(entries, weights, stats.data_ptr(), room.data_ptr()), stream)

    queue(like, call)
    told = stats.cpu()
    return tuple(told[:, 0].tolist()), tuple(told.view(torch.int64)[:, 1].tolist())
