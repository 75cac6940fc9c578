"""A carrier in memory, and federations whose agents sit behind it with keys and desks."""

from collections import deque
from copy import copy

from llmagentos.agent import AgentJournal, Desk, Limits, Party
from llmagentos.engines import MemoryByRun
from llmagentos.engines.carrier import Parcel
from llmagentos.engines.remote import RemoteEngine
from llmagentos.identity import Member, name_of, new_key
from tests.coded import SIZE
from tests.leaving import left
from tests.quadratics import layout_of_size

BASE = "b" * 64
FLAT = layout_of_size(SIZE)


class Direct:
    """Carries to desks in this process; ``tamper(agent, body)`` may change what comes back."""

    def __init__(self, answers, tamper=lambda agent, body: body):
        self.answers = answers
        self.tamper = tamper
        self.waiting = deque()
        self.sent = []

    def send(self, agent, body):
        self.sent.append(Parcel(agent, body))
        self.waiting.append(Parcel(agent, body))

    def poll(self, timeout_s=None):
        if not self.waiting:
            return []
        agent, body = self.waiting.popleft()
        return [Parcel(agent, self.tamper(agent, self.answers[agent](body)))]

    def close(self):
        self.waiting.clear()


class Organisations:
    """A coordinator's key, and for each agent its key and its desk over a folder of its own."""

    def __init__(self, folder, roster, trainer, limits=None, examples=40):
        self.folder = folder
        self.trainer = trainer
        self.layout = getattr(trainer, "layout", FLAT)
        self.limits = limits or Limits()
        self.examples = examples
        self.coordinator = new_key()
        self.keys = {agent: new_key() for agent in roster}
        self.members = {
            agent: Member(name_of(self.keys[agent]), declared.examples, declared.tokens)
            for agent, declared in roster.items()
        }
        self.desks = {agent: self.open_desk(agent) for agent in roster}

    def moved(self, folder):
        """The same organisations with their desks over another folder."""
        others = copy(self)
        others.folder = folder
        others.desks = {agent: others.open_desk(agent) for agent in self.keys}
        return others

    def open_desk(self, agent, **changes):
        """The desk of an agent's process; it was not closed if it was killed before."""
        home = self.folder / agent
        own, theirs = self.keys[agent], self.coordinator.public_key()
        party = Party(agent, own, theirs, BASE, self.layout, 1 << 24)
        journal = left(AgentJournal(home / "journal"))
        trainer = MemoryByRun(changes.get("trainer", self.trainer), home / "memory")
        return Desk(party, changes.get("limits", self.limits), journal, trainer, self.examples)

    def engine(self, members=None, **carrier):
        answers = {agent: desk.answer for agent, desk in self.desks.items()}
        made = Direct(answers, **carrier)
        return RemoteEngine(made, members or self.members, self.coordinator, BASE)
