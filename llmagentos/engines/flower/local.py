"""A whole federation over Flower on one machine, to try it out: TLS, keys, a process an agent."""

import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from llmagentos.engines.answering import unbroken_answer
from llmagentos.engines.carrier import Answer
from llmagentos.engines.flower.carrier import FlowerCarrier
from llmagentos.engines.flower.certificates import make_certificates, make_node_key
from llmagentos.engines.flower.link import Address
from llmagentos.engines.flower.node import POLL_S, Inbox, Node
from llmagentos.engines.flower.program import end_with_parent
from llmagentos.engines.flower.tray import short_name

SPAWN = multiprocessing.get_context("spawn")

Make = Callable[[str], Answer]


def local_flower(make: Make, agents: Iterable[str], folder: Path) -> FlowerCarrier:
    """A carrier that has made certificates and keys in ``folder``, and runs the agents too.

    ``make`` is as for ``ProcessCarrier``: what an agent's own process imports and calls.
    """
    carrier, homes = local_server(agents, folder)
    for agent, home in homes.items():
        node = local_node(home, carrier.link.address.reached)
        carrier.link.programs += [node.program(), AgentProcess(make, agent, home)]
    return carrier


def local_server(
    agents: Iterable[str], folder: Path, host: str = "localhost", listen: str = "127.0.0.1"
) -> tuple[FlowerCarrier, dict[str, Path]]:
    """A carrier to which nobody dials in yet, and the folder of each agent, with its node's key.

    Certificates for ``host`` and their authority are in ``folder``.
    """
    homes = {agent: folder / short_name(agent) for agent in agents}
    for home in homes.values():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = {agent: make_node_key(home / "node.key") for agent, home in homes.items()}
    make_certificates(folder, sorted({host, "localhost", "127.0.0.1"}))
    address = Address(folder.absolute(), host, free_port(), listen)
    return FlowerCarrier(folder / "server", address, keys), homes


def local_node(home: Path, dialled: str) -> Node:
    """The node of an agent with a folder of ``local_server``; ``dialled`` are host and port."""
    return Node(dialled, home.parent / "ca.pem", home / "node.key", home, free_port())


class AgentProcess:
    """An agent in a process of its own, which is started again when it dies."""

    def __init__(self, make: Make, agent: str, folder: Path) -> None:
        self.work = (make, agent, folder)
        self._start()

    def _start(self) -> None:
        self.process = SPAWN.Process(target=live, args=self.work, name=self.work[1], daemon=True)
        self.process.start()

    def tend(self) -> None:
        """Start it again if it has died."""
        if not self.process.is_alive():
            self._start()

    def end(self) -> None:
        """It is gone."""
        self.process.terminate()
        self.process.join(timeout=5)
        self.process.kill()
        self.process.join()


def live(make: Make, agent: str, folder: Path) -> None:
    """What an agent's process does until the server ends it or is gone."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox = Inbox(unbroken_answer(make(agent), agent), folder)
    while True:
        inbox.work()
        time.sleep(POLL_S)


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
