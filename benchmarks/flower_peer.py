"""Flower's own aggregation, for ``average.py``: runs in Flower's environment."""

import logging

import flwr
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate
from flwr.serverapp.strategy import FedAdam
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.task_identity import TaskIdentity
from rows import PIECES, Peer, Rows, serve


def replies_of(rows: Rows, examples: list[int]) -> list[RecordDict]:
    """Replies of the message API as they lie in memory: serialised arrays."""
    replies = []
    for row, count in zip(rows, examples, strict=True):
        pieces = {str(k): Array(piece) for k, piece in enumerate(np.array_split(row, PIECES))}
        metrics = MetricRecord({"num-examples": count})
        replies.append(RecordDict({"arrays": ArrayRecord(pieces), "metrics": metrics}))
    return replies


def current(replies: list[RecordDict]) -> Peer:
    """``FedAvg`` of the message API."""

    def flat(merged: ArrayRecord) -> np.ndarray:
        return np.concatenate([merged[str(k)].numpy() for k in range(PIECES)])

    return lambda: aggregate_arrayrecords(replies, "num-examples"), flat


def adam(replies: list[RecordDict]) -> Peer:
    """``FedAdam`` of the message API: with beta_1 and model 0 its first moment is the average."""
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # messages ask for them
    strategy = FedAdam(beta_1=0.0)
    arrays = replies[0]["arrays"]
    strategy.current_arrays = {name: np.zeros_like(arrays[name].numpy()) for name in arrays}
    messages = [Message(reply, dst_node_id=1, message_type="train") for reply in replies]

    def flat(_: object) -> np.ndarray:
        return np.concatenate([strategy.m_t[str(k)] for k in range(PIECES)])

    return lambda: strategy.aggregate_train(1, messages), flat


def legacy(rows: Rows, examples: list[int]) -> Peer:
    """``aggregate`` of the older API: lists of NumPy arrays."""
    pieces = [np.array_split(row, PIECES) for row in rows]
    replies = list(zip(pieces, examples, strict=True))
    return lambda: aggregate(replies), np.concatenate


def peers(rows: Rows, examples: list[int]) -> dict[str, Peer]:
    """Name to peer."""
    replies = replies_of(rows, examples)
    return {
        "Flower": current(replies),
        "Flower, FedAdam": adam(replies),
        "Flower, older API": legacy(rows, examples),
    }


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.WARNING)
    serve(f"Flower {flwr.__version__}", peers)
