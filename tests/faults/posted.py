"""A coordinator and agents in processes of their own, whose post lies in folders between them."""

import os
import time
from math import inf
from pathlib import Path

from llmagentos.engines.carrier import Parcel
from llmagentos.engines.flower.node import Inbox
from llmagentos.engines.flower.tray import Tray
from tests.faults.crash_points import Point, arm
from tests.organisations import Organisations

POLL_S = 0.001


class Post:
    """Carries through folders; what lies there outlives both ends."""

    def __init__(self, folder: Path, agents) -> None:
        self.tasks = {agent: Tray(folder / agent / "tasks") for agent in agents}
        self.answers = {agent: Tray(folder / agent / "answers") for agent in agents}

    def send(self, agent, body):
        self.tasks[agent].put(f"{time.monotonic_ns():020}", body)

    def poll(self, timeout_s=None):
        end = time.monotonic() + (inf if timeout_s is None else timeout_s)
        while not (parcels := self.arrived()) and time.monotonic() < end:
            time.sleep(POLL_S)
        return parcels

    def arrived(self):
        """What lies there, which is gone from there."""
        parcels = []
        for agent, tray in self.answers.items():
            for name in tray.names():
                parcels.append(Parcel(agent, tray.read(name)))
                tray.drop(name)
        return parcels

    def close(self):
        """What was not answered stays."""


def post_of(run: Path) -> Path:
    """Beside a run's folder, since it belongs to nobody."""
    return run.with_name(f"{run.name}-post")


def serve(organisations: Organisations, run: Path, agent: str, end: tuple[Point, int], first: int):
    """Answer what lies before an agent, until whoever started this process has gone.

    ``end`` is where this process is killed, which counts from the answer of number ``first`` on.
    """
    parent = os.getppid()
    organisations.folder = run / "agents"
    inbox = None
    while os.getppid() == parent:
        if end and not first:
            end = arm(*end)
        inbox = inbox or Inbox(organisations.open_desk(agent).answer, post_of(run) / agent)
        first = max(0, first - len(inbox.tasks.names()))
        inbox.work()
        time.sleep(POLL_S)
