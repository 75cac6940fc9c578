"""Best product of a rank for layers of Llama-7B: by QR of the stacked factors, and the dense way.

OMP_NUM_THREADS=2 python benchmarks/svd.py
"""

import argparse
import os
from platform import python_version
from time import perf_counter

import numpy as np

from llmagentos.aggregation.factors import Factors, summed, truncated

LAYERS = 64
"""Queries and values of 32 blocks, 4096 x 4096 each."""


def main() -> None:
    """Print seconds for one layer either way, and for all layers of the model by QR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument(
        "--dense", action="store_true", help="One layer the dense way too: minutes."
    )
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    local = [
        Factors(rng.normal(size=(asked.rank, 4096)), rng.normal(size=(4096, asked.rank)), 2.0)
        for _ in range(asked.agents)
    ]
    shares = [1 / asked.agents] * asked.agents
    print(f"{machine()}\n\n| way | seconds | seconds a layer | error |\n|---|---|---|---|")
    start = perf_counter()
    for _ in range(LAYERS):
        best = truncated(summed(local, shares), asked.rank)
    print(
        row(
            f"QR of the stacked factors, {LAYERS} layers",
            perf_counter() - start,
            LAYERS,
            best.error,
        )
    )
    if asked.dense:
        start = perf_counter()
        values = np.linalg.svd(summed(local, shares).dense())[1]
        took, error = perf_counter() - start, float(np.linalg.norm(values[asked.rank :]))
        assert np.isclose(error, best.error, rtol=1e-9)
        print(row("the dense sum, one layer", took, 1, error))


def machine() -> str:
    """Where it ran."""
    return (
        f"{len(os.sched_getaffinity(0))} cores; Python {python_version()}, NumPy {np.__version__}."
    )


def row(way: str, seconds: float, layers: int, error: float) -> str:
    """A row of the table."""
    return f"| {way} | {seconds:.1f} | {seconds / layers:.2f} | {error:.6g} |"


if __name__ == "__main__":
    main()
