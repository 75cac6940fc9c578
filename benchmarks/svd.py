"""Best product of a rank for layers of Llama-7B: by QR of the stacked factors, and the dense way.

OMP_NUM_THREADS=2 python benchmarks/svd.py
"""

import argparse
from time import perf_counter

import numpy as np

from llmagentos.aggregation.factors import Factors, summed, truncated

LAYERS = {"q_proj": (4096, 4096), "v_proj": (4096, 4096)}
BLOCKS = 32


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
    start = perf_counter()
    best = truncated(summed(local, shares), asked.rank)
    one = perf_counter() - start
    print(f"by QR, one layer   {one:8.2f} s, error {best.error:.6g}")
    start = perf_counter()
    for _ in range(BLOCKS * len(LAYERS)):
        truncated(summed(local, shares), asked.rank)
    print(f"by QR, {BLOCKS * len(LAYERS)} layers   {perf_counter() - start:8.2f} s")
    if asked.dense:
        start = perf_counter()
        values = np.linalg.svd(summed(local, shares).dense())[1]
        error = np.linalg.norm(values[asked.rank :])
        print(f"dense, one layer   {perf_counter() - start:8.2f} s, error {error:.6g}")


if __name__ == "__main__":
    main()
