"""NVFlare's own aggregation, for ``average.py``: runs in NVFlare's environment."""

import numpy as np
import nvflare
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from rows import PIECES, Peer, Rows, serve


def helper(rows: Rows, examples: list[int]) -> dict[str, Peer]:
    """Its helper over dictionaries of arrays, weighted by numbers of examples."""
    agents = [
        {str(k): piece for k, piece in enumerate(np.array_split(row, PIECES))} for row in rows
    ]

    def work() -> dict[str, np.ndarray]:
        made = WeightedAggregationHelper()
        for number, (tensors, count) in enumerate(zip(agents, examples, strict=True)):
            made.add(tensors, count, f"agent{number}", 0)
        return made.get_result()

    def flat(mean: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([mean[str(k)] for k in range(PIECES)])

    return {"NVFlare": (work, flat)}


if __name__ == "__main__":
    serve(f"NVFlare {nvflare.__version__}", helper)
