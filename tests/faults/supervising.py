"""A coordinator and its agents that are all killed, and started again, while the run goes on."""

import signal
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path
from random import Random

from llmagentos.agent import AgentJournal
from llmagentos.engines.remote import RemoteEngine
from tests.coded import AGENTS
from tests.crashing import FORK, PATIENCE_S
from tests.faults.crash_points import AVERAGING, DESK, MEMORY, ROUNDS, SENDING, TRAINING, arm
from tests.faults.posted import POLL_S, Post, post_of, serve
from tests.faults.worlds import World
from tests.organisations import BASE, Organisations

SERVER = "coordinator"
TABLES = {SERVER: ROUNDS | AVERAGING, "agent": TRAINING | MEMORY | DESK | SENDING}


def posted(organisations: Organisations):
    """The engine of a run whose agents are elsewhere."""

    def engine(run):
        carrier = Post(post_of(run), AGENTS)
        members, key = organisations.members, organisations.coordinator
        return RemoteEngine(carrier, members, key, BASE)

    return engine


def coordinate(world: World, run: Path, end) -> None:
    if end:
        arm(*end)
    world.play(run)


class Supervisor:
    """Starts everyone again who was killed, until the run has come to its end.

    Each of the coordinator and the agents is to be killed ``kills`` times.
    """

    def __init__(self, world: World, organisations: Organisations, seed: int, kills: int) -> None:
        self.world, self.organisations, self.kills = world, organisations, kills
        self.random = Random(seed)
        self.lives: Counter[str] = Counter()
        self.ends: dict[str, str] = {}
        self.tried: Counter[str] = Counter()

    def play(self, run: Path) -> Counter[str]:
        """The kills of a run that was played to its end, with nothing left to answer."""
        alive = {who: self.born(who, run) for who in (SERVER, *AGENTS)}
        post = Post(post_of(run), AGENTS)
        try:
            while SERVER in alive or any(tray.names() for tray in post.tasks.values()):
                for who in self.dead(alive):
                    self.bury(who, alive, run)
        finally:
            for process in alive.values():
                process.kill()
                process.join()
        for agent in AGENTS:
            AgentJournal(run / "agents" / agent / "journal").close()
        return self.tried

    def dead(self, alive) -> list[str]:
        """Who has died; waits for the first of them while the run goes on."""
        sentinels = {process.sentinel: who for who, process in alive.items()}
        found = wait(sentinels, PATIENCE_S if SERVER in alive else POLL_S)
        assert found or SERVER not in alive, "nobody goes on"
        return [sentinels[sentinel] for sentinel in found]

    def bury(self, who: str, alive, run: Path) -> None:
        """Who was killed has another life; a coordinator that has ended the run has none."""
        process = alive.pop(who)
        process.join()
        if (who, process.exitcode) != (SERVER, 0):
            assert process.exitcode == -signal.SIGKILL
            self.tried[self.ends[who]] += 1
            alive[who] = self.born(who, run)

    def born(self, who: str, run: Path):
        """Another life; every second one of an agent answers once before it may end.

        So nobody dies three times over one task, which would be answered with nothing.
        """
        life, end = self.lives[who], self.drawn(who)
        self.lives[who] += 1
        if who == SERVER:
            process = FORK.Process(target=coordinate, args=(self.world, run, end))
        else:
            told = (self.organisations, run, who, end, life % 2)
            process = FORK.Process(target=serve, args=told)
        process.start()
        return process

    def drawn(self, who: str):
        if self.lives[who] >= self.kills:
            return None
        whom = who if who == SERVER else "agent"
        name = self.random.choice(sorted(TABLES[whom]))
        self.ends[who] = f"{whom} killed, all apart: {name}"
        return TABLES[whom][name], self.random.randrange(3)
