"""Both federations over Flower for `engines.py`: processes, TLS, and a relay that counts."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from counted import Counted
from wire import NAMED, RESULT, Made, Work

from llmagentos.engines.flower.carrier import FlowerCarrier
from llmagentos.engines.flower.certificates import make_certificates
from llmagentos.engines.flower.command_line import CommandLine
from llmagentos.engines.flower.link import QUIET
from llmagentos.engines.flower.local import AgentProcess, free_port, local_node, local_server
from llmagentos.engines.flower.program import Program, Tended

LIMIT_S = 900
APP = """import plain_flower

client = plain_flower.client
server = plain_flower.server
"""
PROJECT = """[project]
name = "plain"
version = "1.0.0"
description = "FedAvg"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "app:server"
clientapp = "app:client"
"""


class Counter:
    """The relay, as something that ends with the engine's other processes."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def tend(self) -> None:
        """It does not end by itself."""

    def end(self) -> None:
        """It is gone."""
        self.counted.close()


def own_flower(made: Made, agents: list[str], folder: Path) -> tuple[FlowerCarrier, Counted]:
    """This library's, as ``local_flower`` starts it, but nodes dial the relay."""
    carrier, homes = local_server(agents, folder)
    counted = Counted(carrier.link.address.port)
    carrier.link.programs.append(Counter(counted))
    for agent, home in homes.items():
        node = local_node(home, f"localhost:{counted.port}")
        carrier.link.programs += [node.program(), AgentProcess(made, agent, home)]
    return carrier, counted


@contextmanager
def plain_flower(
    work: Work, agents: list[str], folder: Path
) -> Iterator[tuple[Mapping[str, Any], Counted]]:
    """What the server of a plain federation left when its rounds were over."""
    make_certificates(folder, ["localhost", "127.0.0.1"])
    port, home = free_port(), folder / "home"
    home.mkdir()
    told = {NAMED: work.to_json(), RESULT: str(folder), "PYTHONPATH": str(Path(__file__).parent)}
    own = str(Path(sys.executable).parent)
    settings = {**QUIET, **told, "FLWR_HOME": str(home), "PATH": f"{own}:/usr/bin:/bin"}
    with ExitStack() as running, Counted(port) as counted:
        programs: list[Tended] = [superlink(folder, port, settings)]
        running.callback(lambda: [program.end() for program in reversed(programs)])
        programs += [supernode(agent, folder, counted.port, settings) for agent in agents]
        submit(folder, CommandLine(home, f"localhost:{port}", folder / "ca.pem", settings))
        end = time.monotonic() + LIMIT_S
        while not (folder / "found.npz").exists():
            assert time.monotonic() < end, f"plain Flower: no result in {LIMIT_S} s"
            time.sleep(0.2)
        with np.load(folder / "found.npz") as found:
            yield found, counted


def superlink(folder: Path, port: int, settings: Mapping[str, str]) -> Program:
    """As Flower's guide to TLS has it."""
    words = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--ssl-certfile", str(folder / "server.pem")]
    words += ["--ssl-keyfile", str(folder / "server.key")]
    words += ["--ssl-ca-certfile", str(folder / "ca.pem")]
    words += ["--disable-runtime-dependency-installation"]
    return Program(words, folder / "superlink.log", settings)


def supernode(agent: str, folder: Path, port: int, settings: Mapping[str, str]) -> Program:
    """A node that is called as its agent."""
    home = folder / f"home-{agent}"
    home.mkdir()
    words = ["flower-supernode", "--superlink", f"localhost:{port}"]
    words += ["--root-certificates", str(folder / "ca.pem"), "--port", str(free_port())]
    words += ["--node-config", f"agent='{agent}'"]
    return Program(words, folder / f"{agent}.log", {**settings, "FLWR_HOME": str(home)})


def submit(folder: Path, flwr: CommandLine) -> None:
    """Start the run, once the SuperLink listens."""
    app = folder / "app"
    app.mkdir()
    (app / "app.py").write_text(APP)
    (app / "pyproject.toml").write_text(PROJECT)
    for left in range(20, -1, -1):
        try:
            flwr.run(app)
            return
        except ConnectionError:
            if not left:
                raise
            time.sleep(1)
