"""Flower's own aggregation, for ``average.py``: runs in Flower's environment."""

import flwr
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from rows import PIECES, Peer, Rows, serve


def current(rows: Rows, examples: list[int]) -> Peer:
    """``FedAvg`` of the message API: replies as they lie in memory, serialised arrays."""
    replies = []
    for row, count in zip(rows, examples, strict=True):
        pieces = {str(k): Array(piece) for k, piece in enumerate(np.array_split(row, PIECES))}
        metrics = MetricRecord({"num-examples": count})
        replies.append(RecordDict({"arrays": ArrayRecord(pieces), "metrics": metrics}))

    def flat(merged: ArrayRecord) -> np.ndarray:
        return np.concatenate([merged[str(k)].numpy() for k in range(PIECES)])

    return lambda: aggregate_arrayrecords(replies, "num-examples"), flat


def legacy(rows: Rows, examples: list[int]) -> Peer:
    """``aggregate`` of the older API: lists of NumPy arrays."""
    pieces = [np.array_split(row, PIECES) for row in rows]
    replies = list(zip(pieces, examples, strict=True))
    return lambda: aggregate(replies), np.concatenate


def both(rows: Rows, examples: list[int]) -> dict[str, Peer]:
    """Name to peer."""
    return {"Flower": current(rows, examples), "Flower, older API": legacy(rows, examples)}


if __name__ == "__main__":
    serve(f"Flower {flwr.__version__}", both)
