"""An agent's end: a SuperNode that dials out, and the loop that answers what it brings."""

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from llmagentos.engines.answering import ATTEMPTS, unbroken_answer
from llmagentos.engines.carrier import Answer
from llmagentos.engines.flower.link import flower_settings
from llmagentos.engines.flower.program import SUPEREXEC, Program, installed
from llmagentos.engines.flower.tray import Tray

POLL_S = 0.1

BASE_BYTES = 1 << 30
"""Memory for a process of Flower's; 200 MiB were measured."""

COPIES = 8
"""So many copies of a body it may hold; 4.3 were measured, where a ClientApp unwraps one."""


@dataclass(frozen=True)
class Node:
    """Whom an agent calls, how it proves itself, and its folder.

    ``superlink`` is host and port, ``authority`` the file of the certificate that vouches for it,
    ``key`` the agent's private key. ``port`` is a free one of this machine, used only inside it.
    ``largest_bytes`` is the most that a task may have: whatever comes, none of Flower's processes
    here takes more memory than such a task needs.
    """

    superlink: str
    authority: Path
    key: Path
    folder: Path
    port: int = 9094
    largest_bytes: float = inf

    def program(self) -> Program:
        """The SuperNode; ``SettingError`` where a program that it starts is not there."""
        installed(SUPEREXEC)
        home = self.folder.absolute() / "home"
        home.mkdir(parents=True, exist_ok=True)
        Tray(self.folder / "answers").clear()
        settings = flower_settings(home, self.folder.absolute())
        words = [str(home / "bin" / "flower-supernode"), "--superlink", self.superlink]
        words += ["--root-certificates", str(self.authority.absolute())]
        words += ["--auth-supernode-private-key", str(self.key.absolute())]
        words += ["--port", str(self.port)]
        memory_bytes = BASE_BYTES + COPIES * self.largest_bytes
        return Program(words, self.folder / "supernode.log", settings, memory_bytes)


def serve(answer: Answer, agent: str, node: Node) -> None:
    """Answer what a SuperNode of its own brings, for ever."""
    with node.program() as program:
        inbox = Inbox(unbroken_answer(answer, agent), node.folder)
        while True:
            program.tend()
            inbox.work()
            time.sleep(POLL_S)


class Inbox:
    """Tasks that a relay has laid before the agent; one that keeps killing it is answered empty."""

    def __init__(self, answer: Answer, folder: Path) -> None:
        self.answer = answer
        self.tasks, self.answers = Tray(folder / "tasks"), Tray(folder / "answers")
        self.begun = Tray(folder / "begun")

    def work(self) -> None:
        """Every task that lies there has its answer."""
        for name in self.tasks.names():
            self.answers.put(
                name, b"" if self._hopeless(name) else self.answer(self.tasks.read(name))
            )
            self.tasks.drop(name)
            self.begun.drop(name)

    def _hopeless(self, name: str) -> bool:
        """Whether this many processes have died over a task; this one may be the next."""
        before = len(self.begun.read(name)) if name in self.begun.names() else 0
        self.begun.put(name, bytes(before + 1))
        return before >= ATTEMPTS
