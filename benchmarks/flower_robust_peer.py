"""Flower's robust rules as a process of its own: reads `question/contender`, answers seconds.

Arguments: agents, values. The first line out is JSON: Flower's version and the relative error of
every contender by question. It runs in Flower's environment and imports nothing of ours.
"""

import json
import sys
from collections.abc import Callable

import flwr
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.server.strategy.aggregate import (
    _compute_distances,
    aggregate_median,
    aggregate_trimmed_avg,
)
from flwr.serverapp.strategy.multikrum import compute_distances
from rows import PIECES, Rows, cohort, error, exact_distances, few_pairs, seconds

CHECKED = 4096
SLOW_PAIRS = 32
"""Agents beyond which the older distances, n^2 of them one by one, are left out."""

Contender = tuple[Callable[[], np.ndarray], Callable[[np.ndarray], np.ndarray], np.ndarray]
"""The work, how its result reads, and the exact answer."""


def contenders(rows: Rows) -> dict[str, dict[str, Contender]]:
    """Question to name to contender."""
    n = len(rows)
    pieces = [np.array_split(row, PIECES) for row in rows]
    results = [(piece, 1) for piece in pieces]
    records = [
        ArrayRecord({str(k): Array(part) for k, part in enumerate(piece)}) for piece in pieces
    ]
    ordered = np.sort([row[:CHECKED].astype(np.float64) for row in rows], axis=0)
    middle = ordered[(n - 1) // 2 : n // 2 + 1].mean(axis=0)
    trimmed = ordered[n // 5 : n - n // 5].mean(axis=0)
    exact = exact_distances(rows)

    def columns(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)[:CHECKED]

    def pairs(matrix: np.ndarray) -> np.ndarray:
        return few_pairs(matrix, n)

    share = (n // 5 + 0.5) / n
    found: dict[str, dict[str, Contender]] = {
        "median": {"Flower": (lambda: aggregate_median(results), columns, middle)},
        "trimmed mean": {
            "Flower": (lambda: aggregate_trimmed_avg(results, share), columns, trimmed)
        },
        "distances": {"Flower": (lambda: compute_distances(records), pairs, exact)},
    }
    if n <= SLOW_PAIRS:
        older = (lambda: _compute_distances(pieces), pairs, exact)
        found["distances"]["Flower, older API"] = older
    return found


def main() -> None:
    """Check all, then answer until the input ends."""
    rows, _ = cohort(*map(int, sys.argv[1:]))
    found = contenders(rows)
    errors = {
        question: {name: error(read(work()), truth) for name, (work, read, truth) in works.items()}
        for question, works in found.items()
    }
    print(json.dumps({"version": flwr.__version__, "errors": errors}), flush=True)
    for line in sys.stdin:
        question, name = line.strip().split("/")
        print(seconds(found[question][name][0], 1), flush=True)


if __name__ == "__main__":
    main()
