"""Agents in processes of their own with keys, journal and memory, and runs over what carries."""

import os
import signal
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmagentos.agent import AgentJournal, Desk, Limits, Party
from llmagentos.engines import Engine, InProcessEngine, MemoryByRun
from llmagentos.engines.carrier import Answer, Carrier
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import Federation, run
from llmagentos.identity import Member, name_of, new_key, read_key, write_key
from llmagentos.messages import Enrolled
from llmagentos.settings import LocalSettings
from tests.coded import CODECS, Homing, federation
from tests.organisations import BASE, FLAT

TENANTS = ("north", "south")
ROSTER = dict.fromkeys(TENANTS, Enrolled())
ROUNDS = 3
LOCAL = asdict(LocalSettings(steps=2, batch=4, lr=0.1, optimizer="sgd"))
TOLD = {"fit": {**LOCAL, "aggregation": "naive", "strategy": "fedavg", "codec": CODECS["int8"]}}
"""What they are told; rounds are not evaluated, since every message over Flower takes seconds."""


class Mortal(Homing):
    """Its process is killed while it trains in round 2, once."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def update(self, task):
        if task.round == 2 and not self.trace.exists():
            self.trace.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(task)


@dataclass(frozen=True)
class House:
    """Makes an agent's answer in the agent's own process; all homes are in ``folder``."""

    folder: Path
    mortal: bool = False

    def __call__(self, agent: str) -> Answer:
        home = self.folder / agent
        coordinator = read_key(self.folder / "coordinator.key").public_key()
        party = Party(agent, read_key(home / "agent.key"), coordinator, BASE, FLAT, 1 << 24)
        trainer = MemoryByRun(Mortal(home / "died") if self.mortal else Homing(), home / "memory")
        return Desk(party, Limits(), AgentJournal(home / "journal"), trainer, 40).answer

    def furnish(self) -> None:
        """Everybody has a key."""
        for agent in TENANTS:
            (self.folder / agent).mkdir(parents=True)
            write_key(self.folder / agent / "agent.key", new_key())
        write_key(self.folder / "coordinator.key", new_key())

    def engine(self, carrier: Carrier) -> RemoteEngine:
        """The agents behind a carrier, as the coordinator has them."""
        keys = {agent: read_key(self.folder / agent / "agent.key") for agent in TENANTS}
        members = {agent: Member(name_of(key), 1, 1) for agent, key in keys.items()}
        return RemoteEngine(carrier, members, read_key(self.folder / "coordinator.key"), BASE)


def calm_bits(folder: Path) -> dict[str, bytes]:
    """The state after a run in one process that nothing happened to."""
    engine = InProcessEngine(MemoryByRun(Homing(), folder / "memory"), ROSTER)
    parts = federation_over(engine, folder / "calm")
    list(run(parts))
    return bits(parts)


def federation_over(engine: Engine, folder: Path) -> Federation:
    """Three rounds of the two agents in int8, with error feedback."""
    return replace(federation(folder, "int8", rounds=ROUNDS, settings=TOLD), engine=engine)


def bits(parts: Federation) -> dict[str, bytes]:
    """The state that a run has come to."""
    return {name: vector.tobytes() for name, vector in parts.journal.state().vectors().items()}
