"""Memory of a coordinator over Flower, and of Flower's own processes, as agents get more.

    python benchmarks/flower_memory.py [--agents 4 16 64] [--values 3584] [--rounds 2]

Real rounds over a SuperLink with TLS; agents answer at once, with random numbers, and share one
process, but each has a SuperNode and a key of its own. Anonymous memory (no file stands behind it)
is sampled five times a second, from the first question on. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from contenders import enrolled
from rows import PIECES, machine
from wire import Made, Work

from llmagentos.engines.answering import unbroken_answer
from llmagentos.engines.flower.carrier import FlowerCarrier
from llmagentos.engines.flower.local import SPAWN, local_node, local_server
from llmagentos.engines.flower.node import POLL_S, Inbox
from llmagentos.engines.flower.program import end_with_parent
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import Federation, run
from llmagentos.identity import name_of, new_key
from llmagentos.journal import Journal
from llmagentos.strategies import fedavg

SAMPLE_S = 0.2
FLOWER = {"SuperLink": "flower-superlink", "ServerApp": "flwr-serverapp"}


class Crowd:
    """One process that answers for all agents."""

    def __init__(self, made: Made, homes: dict[str, Path]) -> None:
        self.process = SPAWN.Process(target=live, args=(made, homes), daemon=True)
        self.process.start()

    def tend(self) -> None:
        """It does not end by itself."""
        assert self.process.is_alive()

    def end(self) -> None:
        """It is gone."""
        self.process.kill()
        self.process.join()


def live(made: Made, homes: dict[str, Path]) -> None:
    """Answer what is laid before any of the agents."""
    end_with_parent()
    inboxes = [Inbox(unbroken_answer(made(agent), agent), home) for agent, home in homes.items()]
    while True:
        for inbox in inboxes:
            inbox.work()
        time.sleep(POLL_S)


def carrier_of(made: Made, agents: list[str], folder: Path) -> FlowerCarrier:
    """A SuperLink, a SuperNode an agent, and the crowd."""
    carrier, homes = local_server(agents, folder)
    carrier.link.programs.append(Crowd(made, homes))
    for home in homes.values():
        carrier.link.programs.append(local_node(home, carrier.link.address.reached).program())
    return carrier


def coordinate(work: Work, folder: Path) -> None:
    """Be the coordinator of some rounds; a line when they begin, and one for each that is over."""
    hands, key = work.hands(), new_key()
    made = Made(work, folder, name_of(key))
    members = {agent: enrolled(made, hands, agent) for agent in hands.roster}
    carrier = carrier_of(made, list(members), folder / "flower")
    with (
        closing(RemoteEngine(carrier, members, key, hands.base)) as engine,
        Journal(folder / "journal") as journal,
    ):
        plan = work.plan(journal.begin(hands.layout, {}, hands.first_state))
        del hands
        print("begins", flush=True)
        for report in run(Federation(fedavg(), engine, journal, plan)):
            assert len(report.weights) == work.agents
            journal.forget(updates=True)
            print(report.seconds, flush=True)


def anonymous(pid: int) -> int:
    """Bytes of a process that no file stands behind; none of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def sampled(coordinator: int) -> dict[str, int]:
    """Anonymous bytes of the coordinator and of each of Flower's processes beside it."""
    found = {"coordinator": anonymous(coordinator)}
    for process in psutil.process_iter(["cmdline", "ppid"]):
        words = " ".join(process.info["cmdline"] or ())
        for name, program in FLOWER.items():
            if program in words and descends(process, coordinator):
                found[name] = found.get(name, 0) + anonymous(process.pid)
    return found


def descends(process: psutil.Process, ancestor: int) -> bool:
    """Whether a process was started by another, or by one that it has started."""
    try:
        return any(parent.pid == ancestor for parent in process.parents())
    except psutil.NoSuchProcess:
        return False


def measured(work: Work) -> tuple[dict[str, int], dict[str, int], float]:
    """Bytes when the rounds begin, the most of them later, and seconds of the last round."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", work.to_json(), folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n", "the coordinator did not begin"
            first, most = sampled(process.pid), defaultdict(int)
            while process.poll() is None:
                for name, size in sampled(process.pid).items():
                    most[name] = max(most[name], size)
                time.sleep(SAMPLE_S)
            seconds = [float(line) for line in process.stdout]
            assert process.returncode == 0, f"the coordinator ended with {process.returncode}"
    return first, most, seconds[-1]


def row(work: Work) -> str:
    """One size."""
    first, most, seconds = measured(work)
    cells: list[Any] = [work.agents, f"{4 * work.values / 1e6:.2f}"]
    cells += [f"{first['coordinator'] / 1e6:.0f}", f"{most['coordinator'] / 1e6:.0f}"]
    cells += [f"{most[name] / 1e6:.0f}" for name in FLOWER]
    return f"| {' | '.join(map(str, cells))} | {seconds:.0f} |"


def main() -> None:
    """Measure one size after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--values", type=int, default=8 * PIECES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        told, folder = asked.one
        coordinate(Work(**json.loads(told)), Path(folder))
        return
    print(machine(0).replace(" 0 values in a vector;", ""), end="\n\n")
    print(
        "| agents | adapter, MB | coordinator before, MB | coordinator, most | SuperLink, most ",
        end="",
    )
    print("| ServerApp, most | s, last round |\n|---|---|---|---|---|---|---|")
    work = Work(asked.rounds, values=asked.values - asked.values % PIECES)
    for agents in asked.agents:
        print(row(replace(work, agents=agents)), flush=True)


if __name__ == "__main__":
    main()
