"""Every agent in a process of its own on this machine, so that one's crash is not another's."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from math import inf
from multiprocessing.connection import Connection, wait
from threading import Thread

from llmagentos.engines.answering import ATTEMPTS, unbroken_answer
from llmagentos.engines.carrier import Answer, Parcel

log = logging.getLogger(__name__)

SPAWN = multiprocessing.get_context("spawn")


class ProcessCarrier:
    """Carries over pipes; a process that dies is started again and gets its body again.

    ``make`` gives an agent's answer, in the agent's process. It travels as the name of a function
    or class of a module, with plain values, so it is importable from the processes too.
    """

    def __init__(self, make: Callable[[str], Answer], agents: Iterable[str]) -> None:
        self._homes = {agent: Home(make, agent) for agent in agents}

    def send(self, agent: str, body: bytes) -> None:
        """Queue a body; its turn comes when the agent has answered what it works on."""
        self._homes[agent].queue(body)

    def poll(self, timeout_s: float | None = None) -> list[Parcel]:
        """The answers that have come in; none, at once, where none is awaited."""
        end = inf if timeout_s is None else time.monotonic() + timeout_s
        parcels: list[Parcel] = []
        while not parcels and any(home.awaited for home in self._homes.values()):
            left = end - time.monotonic()
            pipes = [home.pipe for home in self._homes.values()]
            ready = wait(pipes, None if left == inf else max(left, 0))
            homes = [home for home in self._homes.values() if home.pipe in ready]
            parcels = [parcel for home in homes for parcel in home.hear()]
            if left <= 0:
                break
        return parcels

    def close(self) -> None:
        """End the agents' processes; what they were working on is forgotten."""
        for home in self._homes.values():
            home.end()


class Home:
    """One agent's process, its work, and the newest body that waits for it."""

    def __init__(self, make: Callable[[str], Answer], agent: str) -> None:
        self.make, self.agent = make, agent
        self.awaited: list[bytes] = []
        self.deaths = 0
        self.start()

    def start(self) -> None:
        """A process that will say, with an empty body, that it is ready."""
        self.ready = False
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(
            target=serve, args=(self.make, self.agent, theirs), name=self.agent, daemon=True
        )
        self.process.start()
        theirs.close()

    def queue(self, body: bytes) -> None:
        """Hand a body over, or keep it, in place of another that waits, until its turn comes."""
        idle = not self.awaited
        self.awaited = [*self.awaited[:1], body]
        if self.ready and idle:
            self.hand_over()

    def hand_over(self) -> None:
        """The process has the first of the bodies; one that is dead shows that in ``hear``."""
        if self.awaited:
            try:
                self.pipe.send_bytes(self.awaited[0])
            except OSError as error:
                log.debug("agent %r cannot be reached: %s", self.agent, error)

    def hear(self) -> list[Parcel]:
        """The answer that the process has sent; a dead one is started again."""
        try:
            body = self.pipe.recv_bytes()
        except (EOFError, OSError):
            return self.bury()
        answered = self.ready
        self.ready = True
        parcels = [self.answered(body)] if answered else []
        self.hand_over()
        return parcels

    def answered(self, body: bytes) -> Parcel:
        """The answer to the first body, which is no longer awaited."""
        del self.awaited[0]
        self.deaths = 0
        return Parcel(self.agent, body)

    def bury(self) -> list[Parcel]:
        """Another process; one body that ends several of them is answered as broken."""
        self.end()
        self.deaths += 1
        log.warning("agent %r: its process ended with %s", self.agent, self.process.exitcode)
        broken = self.deaths >= ATTEMPTS and self.awaited
        parcels = [self.answered(b"")] if broken else []
        self.start()
        return parcels

    def end(self) -> None:
        """Neither process nor pipe is left."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(timeout=5)
        self.process.kill()
        self.process.join()


def serve(make: Callable[[str], Answer], agent: str, pipe: Connection) -> None:
    """Answer what comes through the pipe until the server closes it; its end is the agent's.

    Ctrl-C is the server's to decide about.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_the_server, daemon=True).start()
    try:
        answer = unbroken_answer(make(agent), agent)
        pipe.send_bytes(b"")
        while True:
            pipe.send_bytes(answer(pipe.recv_bytes()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.debug("the server of agent %r has gone", agent)


def end_with_the_server() -> None:
    """End this process when the server's does, whatever it is at.

    So a server that is started again finds the agent's journal free.
    """
    server = multiprocessing.parent_process()
    assert server is not None
    server.join()
    os._exit(1)
