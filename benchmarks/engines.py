"""Seconds and bytes of a round in process, over each engine, and over plain Flower.

    python benchmarks/engines.py [--model tiny | smollm2] [--values N ...] [--runs 1]

Four agents. With a model they train it for a step or a few; without one they answer at once, with
random numbers, so that what is left is carriage and averaging. A contender is a process of its own
with its processes; all contenders take turns. Steady rounds are all but the first. What goes
between SuperLink and SuperNodes goes through a relay that counts it, TLS included. Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from counted import Counted
from rows import PIECES, machine
from wire import NAMED, Hands, Made, Work

from llmagentos.engines import Engine, InProcessEngine, with_memory
from llmagentos.engines.carrier import Carrier
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import Federation, run
from llmagentos.identity import Member, name_of, new_key, write_key
from llmagentos.journal import Journal
from llmagentos.strategies import fedavg

HERE = Path(__file__).parent
NAMES = {
    "in_process": "in process",
    "processes": "processes",
    "ray": "Ray",
    "flower": "Flower, this library",
    "plain": "plain Flower, tensor by tensor",
    "plain_one": "plain Flower, all in one array",
}


@dataclass
class Found:
    """What a contender came to: when rounds ended, bytes that agents sent and were sent."""

    ends: list[float] = field(default_factory=list)
    ledger: tuple[int, int] = (0, 0)
    """Of the last round, as the round's report counts them: vectors and files."""
    wire: list[tuple[int, int]] = field(default_factory=list)
    """At the end of every round, of all bytes up to then."""

    @property
    def steady(self) -> list[float]:
        """Seconds of every round but the first."""
        return [float(seconds) for seconds in np.diff(self.ends)]

    @property
    def carried(self) -> tuple[int, int] | None:
        """Bytes up and down of the median steady round."""
        if not self.wire:
            return None
        up, down = np.median(np.diff(np.array(self.wire), axis=0), axis=0)
        return int(up), int(down)


def ours(name: str, work: Work, folder: Path) -> tuple[Found, np.ndarray]:
    """The rounds over one of this library's engines, and the final adapter."""
    hands, found = work.hands(), Found()
    with (
        engine_of(name, work, hands, folder) as (engine, counted),
        Journal(folder / "journal") as journal,
    ):
        plan = work.plan(journal.begin(hands.layout, {}, hands.first_state))
        for report in run(Federation(fedavg(), engine, journal, plan)):
            found.ends.append(time.time())
            found.wire += [counted.until(time.time())] if counted else []
            found.ledger = report.bytes_up, report.bytes_down
            assert not report.refused, report.refused
            journal.forget(updates=True)
        return found, np.array(journal.state().adapter.vector)


@contextmanager
def engine_of(
    name: str, work: Work, hands: Hands, folder: Path
) -> Iterator[tuple[Engine, Counted | None]]:
    """An engine by its name; with it what counts the bytes, where they go over a wire."""
    if name == "in_process":
        trainer = with_memory(hands.trainer, folder / "memory")
        yield InProcessEngine(trainer, hands.roster), None
        return
    key = new_key()
    made = Made(work, folder, name_of(key))
    members = {agent: enrolled(made, hands, agent) for agent in hands.roster}
    carrier, counted = carrier_of(name, made, list(members), folder)
    with closing(RemoteEngine(carrier, members, key, hands.base)) as engine:
        yield engine, counted


def enrolled(made: Made, hands: Hands, agent: str) -> Member:
    """An agent with a key of its own."""
    key, said = new_key(), hands.roster[agent]
    home = made.home(agent)
    home.mkdir(parents=True)
    write_key(home / "agent.key", key)
    return Member(name_of(key), said.examples, said.tokens)


def carrier_of(
    name: str, made: Made, agents: list[str], folder: Path
) -> tuple[Carrier, Counted | None]:
    """A carrier by its name; each is imported where it is measured, as its memory is, too."""
    if name == "processes":
        from llmagentos.engines.processes import ProcessCarrier  # noqa: PLC0415

        return ProcessCarrier(made, agents), None
    if name == "ray":
        from llmagentos.engines.ray import RayCarrier, Share  # noqa: PLC0415

        return RayCarrier(made, agents, Share()), None
    from flower_ends import own_flower  # noqa: PLC0415

    return own_flower(made, agents, folder / "flower")


def plain(work: Work, folder: Path) -> tuple[Found, np.ndarray]:
    """The rounds over plain Flower, and the final adapter."""
    from flower_ends import plain_flower  # noqa: PLC0415

    agents = list(work.hands().roster)
    with plain_flower(work, agents, folder) as (result, counted):
        adapter, ends = result["adapter"], [float(end) for end in result["ends"]]
        return Found(ends, (0, 0), [counted.until(end) for end in ends]), adapter


def here(name: str, told: str, adapter: str) -> None:
    """Be a contender: leave the final adapter in a file, and print the rest."""
    work = Work(**json.loads(told))
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("plain"):
            found, vector = plain(replace(work, named=name == "plain"), Path(folder))
        else:
            found, vector = ours(name, work, Path(folder))
    np.save(adapter, vector)
    print(json.dumps(asdict(found)))


def contend(name: str, work: Work, adapter: Path) -> Found:
    """What a contender finds in a process of its own."""
    command = [sys.executable, __file__, "--one", name, work.to_json(), str(adapter)]
    settings = {**os.environ, NAMED: work.to_json(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-4000:]}")
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def apart(folder: Path, name: str) -> str:
    """How far a contender's final adapter is from that in process, as a share of the change."""
    start, there, final = (
        np.load(folder / f"{each}.npy") for each in ("start", "in_process", name)
    )
    distance = float(np.linalg.norm(final - there) / np.linalg.norm(there - start))
    return f"{distance:.0e}" if distance else "0"


def compare(work: Work, runs: int, label: str, names: list[str]) -> Iterator[str]:
    """The rows of a table, each when its contender is through; the first is in process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ran: dict[str, list[Found]] = {name: [] for name in ("in_process", *names)}
        np.save(folder / "start.npy", work.hands().first_state().adapter.vector)
        for turn in range(runs):
            for name, found in ran.items():
                found.append(contend(name, work, folder / f"{name}.npy"))
                if turn == runs - 1:
                    cells = [label, NAMES[name], *measured(found, ran["in_process"])]
                    yield f"| {' | '.join([*cells, apart(folder, name)])} |"


def measured(runs: list[Found], there: list[Found]) -> list[str]:
    """Seconds, those over the median in process, and bytes, also in sizes of what they carry."""
    steady = [seconds for each in runs for seconds in each.steady]
    least = median(seconds for each in there for seconds in each.steady)
    carried, ledger = runs[0].carried, there[0].ledger
    told = [f"{count / 1e6:.3f}" for count in carried] if carried else ["", ""]
    times = f"{sum(carried) / sum(ledger):.2f}" if carried else ""
    spread = f"{median(steady):.2f} ({min(steady):.2f} to {max(steady):.2f})"
    return [spread, f"{median(steady) - least:+.2f}", *told, times]


HEAD = (
    "| round | carried by | s a steady round | over in process | MB up | MB down | times the "
    "vectors | apart |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Let them take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["tiny", "smollm2"])
    parser.add_argument("--steps", type=int, default=1, help="Of training, in a round.")
    parser.add_argument("--values", type=int, nargs="*", default=[], help="Without training.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=1, help="Of every contender.")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=list(NAMES)[:5])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        here(*asked.one)
        return
    versions = {package: version(package) for package in ("flwr", "ray", "torch")}
    print(machine(0, **versions).replace(" 0 values in a vector;", ""), end=f"\n\n{HEAD}\n")
    works = []
    if asked.model:
        plural = "" if asked.steps == 1 else "s"
        label = f"{asked.model}, 4 agents x {asked.steps} step{plural}"
        works.append((label, Work(asked.rounds, asked.model, asked.steps)))
    for values in asked.values:
        work = Work(asked.rounds, values=values - values % PIECES)
        works.append((f"{4 * values / 1e6:.2f} MB, no training", work))
    for label, work in works:
        for row in compare(work, asked.runs, label, asked.names):
            print(row, flush=True)


if __name__ == "__main__":
    main()
