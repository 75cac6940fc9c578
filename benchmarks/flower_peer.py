"""Flower's own aggregation as a process of its own: reads a contender's name, answers seconds.

Arguments: agents, values, threads. The first line out is JSON: Flower's version and the relative
error of every contender. It runs in Flower's environment and imports nothing of ours.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import flwr
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from rows import PIECES, Rows, cohort, error, exact, seconds

Contender = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]
"""The aggregation, which is timed, and how its result reads as one vector, which is not."""


def current(rows: Rows, examples: list[int]) -> Contender:
    """``FedAvg`` of the message API: replies as they lie in memory, serialised arrays."""
    replies = []
    for row, count in zip(rows, examples, strict=True):
        pieces = {str(k): Array(piece) for k, piece in enumerate(np.array_split(row, PIECES))}
        metrics = MetricRecord({"num-examples": count})
        replies.append(RecordDict({"arrays": ArrayRecord(pieces), "metrics": metrics}))

    def flat(merged: ArrayRecord) -> np.ndarray:
        return np.concatenate([merged[str(k)].numpy() for k in range(PIECES)])

    return lambda: aggregate_arrayrecords(replies, "num-examples"), flat


def legacy(rows: Rows, examples: list[int]) -> Contender:
    """``aggregate`` of the older API: lists of NumPy arrays."""
    pieces = [np.array_split(row, PIECES) for row in rows]
    replies = list(zip(pieces, examples, strict=True))
    return lambda: aggregate(replies), np.concatenate


def main() -> None:
    """Check both, then answer until the input ends."""
    agents, values, threads = map(int, sys.argv[1:])
    rows, examples = cohort(agents, values)
    contenders = {
        "Flower": current(rows, examples),
        "Flower, older API": legacy(rows, examples),
    }
    truth = exact(rows, examples)
    errors = {name: error(flat(work()), truth) for name, (work, flat) in contenders.items()}
    print(json.dumps({"version": flwr.__version__, "errors": errors}), flush=True)
    for line in sys.stdin:
        print(seconds(contenders[line.strip()][0], threads), flush=True)


if __name__ == "__main__":
    main()
