"""One contender of `engines.py`, in a process of its own.

    python benchmarks/contenders.py NAME WORK FILE

WORK is JSON. Leaves the final adapter in FILE, and ends with a line of JSON.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from counted import Counted
from wire import Hands, Made, Work

from llmagentos.engines import Engine, InProcessEngine, with_memory
from llmagentos.engines.carrier import Carrier
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import Federation, run
from llmagentos.identity import Member, name_of, new_key, write_key
from llmagentos.journal import Journal
from llmagentos.strategies import fedavg


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


def main() -> None:
    """Play the rounds, leave the final adapter in the file, and print the rest."""
    name, told, adapter = sys.argv[1:]
    work = Work(**json.loads(told))
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("plain"):
            found, vector = plain(replace(work, named=name == "plain"), Path(folder))
        else:
            found, vector = ours(name, work, Path(folder))
    np.save(adapter, vector)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
