"""NVFlare's own aggregation, for ``average.py``: runs in NVFlare's environment."""

import sys
from typing import Any

import ml_dtypes
import numpy as np
import nvflare
import torch
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from rows import PIECES, Peer, Rows, serve


def coded(row: np.ndarray, kind: str) -> np.ndarray:
    """The row in the type that travels."""
    return row.astype(getattr(ml_dtypes, kind, kind))


def tensors(row: np.ndarray) -> list[Any]:
    """An adapter's tensors as a client sends them: NumPy's, in bfloat16 torch's."""
    if row.dtype != ml_dtypes.bfloat16:
        return np.array_split(row, PIECES)
    return list(torch.from_numpy(row.view(np.int16)).view(torch.bfloat16).tensor_split(PIECES))


def flat(mean: dict[str, Any]) -> np.ndarray:
    """What was averaged, as one vector."""
    pieces = (torch.as_tensor(mean[str(k)]) for k in range(PIECES))
    return torch.cat([piece.float() for piece in pieces]).numpy()


def helper(rows: Rows, examples: list[int]) -> dict[str, Peer]:
    """Its helper over dictionaries of arrays, weighted by numbers of examples."""
    agents = [{str(k): piece for k, piece in enumerate(tensors(row))} for row in rows]

    def work() -> dict[str, Any]:
        made = WeightedAggregationHelper()
        for number, (tensors, count) in enumerate(zip(agents, examples, strict=True)):
            made.add(tensors, count, f"agent{number}", 0)
        return made.get_result()

    return {"NVFlare": (work, flat)}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    serve(f"NVFlare {nvflare.__version__}", helper, coded)
