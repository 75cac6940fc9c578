"""How long a message takes over Flower, there and back, by its size.

    python benchmarks/carriage.py [--megabytes 0.01 8 40 100] [--repeats 2]

A SuperLink with TLS, SuperNodes, and agents that answer at once with as many other random bytes:
zeros would be carried for less, since Flower sends equal chunks once. One agent, and four that are
asked together. Prints a Markdown table.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from rows import machine

from llmagentos.engines.carrier import Answer
from llmagentos.engines.flower.carrier import FlowerCarrier
from llmagentos.engines.flower.local import local_flower


def echo(agent: str) -> Answer:
    """An agent that answers with other bytes of the same number."""
    rng = np.random.default_rng(sum(agent.encode()))
    return lambda body: rng.bytes(len(body))


@contextmanager
def carrier_of(agents: list[str]) -> Iterator[FlowerCarrier]:
    """A carrier whose agents are up."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(local_flower(echo, agents, Path(folder))) as carrier,
    ):
        asked(carrier, agents, 1)
        yield carrier


def asked(carrier: FlowerCarrier, agents: list[str], size: int) -> float:
    """Seconds until all of them have answered."""
    bodies = {agent: np.random.default_rng().bytes(size) for agent in agents}
    start = time.perf_counter()
    for agent, body in bodies.items():
        carrier.send(agent, body)
    waiting = set(agents)
    while waiting:
        for parcel in carrier.poll():
            assert len(parcel.body) == size
            waiting.remove(parcel.agent)
    return time.perf_counter() - start


def spread(seconds: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    """Print a row a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.01, 8, 40, 100])
    parser.add_argument("--repeats", type=int, default=2)
    wanted = parser.parse_args()
    sizes = [int(1e6 * each) for each in wanted.megabytes]
    print(machine(0).replace(" 0 values in a vector;", ""), end="\n\n")
    rows = [[f"{size / 1e6:g}"] for size in sizes]
    for count in (1, 4):
        agents = [f"agent{number}" for number in range(count)]
        with carrier_of(agents) as carrier:
            for row, size in zip(rows, sizes, strict=True):
                found = [asked(carrier, agents, size) for _ in range(wanted.repeats)]
                row.append(spread(found))
    print("| MB each way | s, one agent | s, four agents together |\n|---|---|---|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
