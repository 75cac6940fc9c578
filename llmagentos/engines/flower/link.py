"""The server's Flower processes: a SuperLink, the SuperExec that starts our app, and the run."""

import json
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from llmagentos.engines.flower.command_line import CommandLine
from llmagentos.engines.flower.guard import guarded_path
from llmagentos.engines.flower.program import SUPEREXEC, Program, Tended
from llmagentos.engines.flower.shim import write_shim
from llmagentos.engines.flower.tray import FOLDER, short_name
from llmagentos.errors import SettingError
from llmagentos.files import write_durably, write_secret

START_S = 60
"""How long a SuperLink may take to listen."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Flower calls nobody, and its processes keep no threads for sums that they never do."""


@dataclass(frozen=True)
class Address:
    """Where the SuperLink listens, and the folder of ``ca.pem``, ``server.pem``, ``server.key``."""

    certificates: Path
    host: str = "localhost"
    port: int = 8443
    listen: str = "127.0.0.1"

    @property
    def reached(self) -> str:
        """Host and port, as agents dial them."""
        return f"{self.host}:{self.port}"


class Link:
    """A SuperLink with TLS that knows the agents' keys; ``folder`` outlives every process.

    Raises ``SettingError`` where a port is taken or a file is missing.
    """

    def __init__(self, folder: Path, address: Address, keys: Mapping[str, Path]) -> None:
        self.folder, self.address = folder.absolute(), address
        check_files(address, keys)
        self.home = self.folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self._check_port()
        self._forget_unless_known(keys)
        self.settings = flower_settings(self.home, self.folder)
        self.superlink = self._superlink()
        self.programs: list[Tended] = [self.superlink, self._superexec()]
        authority = address.certificates / "ca.pem"
        self.flwr = CommandLine(self.home, address.reached, authority, self.settings)
        with ExitStack() as begun:
            begun.callback(self.close)
            self._wait_until_it_listens()
            self._register(keys)
            begun.pop_all()

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.address.listen, self.address.port))
            except OSError as error:
                raise SettingError(
                    f"flower.port={self.address.port}: {error.strerror}; choose another, or end "
                    "what uses it"
                ) from error

    def _forget_unless_known(self, keys: Mapping[str, Path]) -> None:
        """A SuperLink that may know keys whose nodes we do not starts anew.

        It takes no key twice, and one that was registered as the coordinator died has no line in
        ``nodes.json``. Nothing else in its database has to outlive it.
        """
        if not self._nodes().keys() >= set(map(short_name, keys)):
            for path in [*self.folder.glob("superlink.sqlite*"), self.folder / "nodes.json"]:
                path.unlink(missing_ok=True)

    def _nodes(self) -> dict[str, str]:
        """Which of Flower's nodes each agent is: the one with its key."""
        path = self.folder / "nodes.json"
        nodes: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return nodes

    def _superlink(self) -> Program:
        here, there = self.address.certificates, self.address
        words = ["flower-superlink", "--host", there.listen, "--port", str(there.port)]
        words += ["--ssl-certfile", str(here / "server.pem"), "--ssl-keyfile"]
        words += [str(here / "server.key"), "--ssl-ca-certfile", str(here / "ca.pem")]
        words += ["--database", str(self.folder / "superlink.sqlite"), "--isolation", "process"]
        words += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        words += ["--superexec-auth-secret-file", str(self._secret())]
        return Program(words, self.folder / "superlink.log", self.settings)

    def _superexec(self) -> Program:
        words = [SUPEREXEC, "--runtime-api-address", self.address.reached]
        words += ["--root-certificates", str(self.address.certificates / "ca.pem")]
        words += ["--superexec-auth-secret-file", str(self._secret())]
        return Program(words, self.folder / "superexec.log", self.settings)

    def _secret(self) -> Path:
        """What the SuperExec proves itself with to the SuperLink."""
        path = self.folder / "superexec.secret"
        if not path.exists():
            write_secret(path, secrets.token_bytes(32))
        return path

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + START_S
        while not self._listens():
            if time.monotonic() > end:
                raise SettingError(f"Flower does not start; see {self.folder / 'superlink.log'}")
            time.sleep(0.2)

    def _listens(self) -> bool:
        try:
            with socket.create_connection((self.address.listen, self.address.port), timeout=1):
                return True
        except OSError:
            return False

    def _register(self, keys: Mapping[str, Path]) -> None:
        """Every agent's node is in ``nodes.json``."""
        nodes = self._nodes()
        for agent, key in keys.items():
            if short_name(agent) not in nodes:
                nodes[short_name(agent)] = self.flwr.register(key)
                write_durably(self.folder / "nodes.json", json.dumps(nodes).encode())

    def submit(self) -> None:
        """A Flower run whose relay takes over from any earlier one's."""
        (self.folder / "session").write_text(secrets.token_hex(8))
        write_shim(self.folder / "app")
        self.flwr.run(self.folder / "app")

    def tend(self) -> bool:
        """Start again what has ended; whether the SuperLink had."""
        before = self.superlink.running
        for program in self.programs:
            program.tend()
        return self.superlink.running is not before

    def close(self) -> None:
        """No process is left; the database is."""
        for program in reversed(self.programs):
            program.end()
        shutil.rmtree(self.home / "apps", ignore_errors=True)


def check_files(address: Address, keys: Mapping[str, Path]) -> None:
    """Raise ``SettingError`` that names the first certificate or public key that is not there."""
    names = ("ca.pem", "server.pem", "server.key")
    for path in [*(address.certificates / name for name in names), *keys.values()]:
        if not path.is_file():
            raise SettingError(f"{path}: no such file; docs/deployment.md says how to make it")


def flower_settings(home: Path, relay: Path) -> dict[str, str]:
    """The environment of Flower's processes: offline, our guard before its app starters."""
    return {**QUIET, "FLWR_HOME": str(home), FOLDER: str(relay), "PATH": guarded_path(home)}
