"""A network namespace at the end of a virtual cable, where kernel and rights allow it."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
NEAR, FAR = "10.213.7.1", "10.213.7.2"


class Cable:
    """The namespace's end of the cable is called ``far``, this one ``near``."""

    def __init__(self) -> None:
        self.name = f"llm-{os.getpid()}"
        self.near, self.far = f"{self.name}-n"[:15], f"{self.name}-f"[:15]

    def lay(self) -> None:
        """The two ends reach each other."""
        ip("netns", "add", self.name)
        ip("link", "add", self.near, "type", "veth", "peer", self.far, "netns", self.name)
        ip("address", "add", f"{NEAR}/30", "dev", self.near)
        ip("-n", self.name, "address", "add", f"{FAR}/30", "dev", self.far)
        ip("link", "set", self.near, "up")
        for end in (self.far, "lo"):
            ip("-n", self.name, "link", "set", end, "up")

    def cut(self) -> None:
        """Packets to the namespace are lost, and nobody in it is told."""
        ip("route", "add", "blackhole", f"{FAR}/32")

    def heal(self) -> None:
        """Packets come through."""
        ip("route", "del", "blackhole", f"{FAR}/32")

    def slow(self, rate: str) -> None:
        """No more than a rate, such as 256kbit, comes from either end."""
        limit = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
        run("tc", "qdisc", "add", "dev", self.near, *limit)
        run("tc", "-n", self.name, "qdisc", "add", "dev", self.far, *limit)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Programs that are started inside are in the namespace."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(Path("/run/netns") / self.name, os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(own)
            os.close(own)
            os.close(there)

    def take_up(self) -> None:
        """Neither cable nor namespace is left."""
        left = (f"netns del {self.name}", f"link del {self.near}", f"route del blackhole {FAR}/32")
        for words in left:
            subprocess.run(["ip", *words.split()], check=False, capture_output=True)


def enter(namespace: int) -> None:
    """This thread is in a network namespace; see setns(2)."""
    assert ctypes.CDLL(None).setns(namespace, CLONE_NEWNET) == 0


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def ip(*words: str) -> None:
    run("ip", *words)


@contextmanager
def laid_cable() -> Iterator[Cable]:
    """A cable to a namespace; where that is not permitted, the test is skipped and says why."""
    cable = Cable()
    try:
        cable.lay()
    except FileNotFoundError:
        pytest.skip("network namespaces need ip, of iproute2")
    except subprocess.CalledProcessError as error:
        cable.take_up()
        pytest.skip(f"no network namespace can be made here: {error.stderr.strip()}")
    try:
        yield cable
    finally:
        cable.take_up()
