"""Agents in spawned processes, and their coordinator, killed while the run goes on."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from llmagentos.engines.processes import ProcessCarrier
from llmagentos.engines.remote import RemoteEngine
from llmagentos.strategies import scaffold
from tests.coded import AGENTS, ROSTER
from tests.crashing import ended
from tests.faults import worlds
from tests.faults.crash_points import ROUNDS
from tests.faults.killing import killed
from tests.faults.mortal import Mortal, secrets_of
from tests.faults.walking import Walking
from tests.faults.worlds import World, outcome, rounds_of
from tests.organisations import BASE, Organisations

LAST = 8


class Deadly(ProcessCarrier):
    """Now and then kills, by its number, the process that it has just given something to."""

    def __init__(self, make, agents, seed):
        super().__init__(make, agents)
        self.random = Random(seed)

    def send(self, agent, body):
        super().send(agent, body)
        home = self._homes[agent]
        if home.ready and self.random.random() < 0.3:
            time.sleep(self.random.random() / 100)
            os.kill(home.process.pid, signal.SIGKILL)


class Case(NamedTuple):
    """A run to be, its organisations, and the outcome of the same run in one quiet process."""

    run: Path
    organisations: Organisations
    calm: dict[str, Any]


@pytest.fixture
def case(place):
    World(rounds_of(scaffold(), worlds.here, rounds=LAST), {}).play(place / "calm")
    organisations = Organisations(place / "keys", ROSTER, Walking())
    return Case(place / "wild", organisations, outcome(place / "calm"))


def mortal(case, seed=0, kills=0):
    return Mortal(case.run, secrets_of(case.organisations), Walking(), seed, kills)


def over(carrier_of, organisations):
    """A run over the carrier that ``carrier_of`` makes of its folder."""

    def engine(run):
        members, key = organisations.members, organisations.coordinator
        return RemoteEngine(carrier_of(run), members, key, BASE)

    return World(rounds_of(scaffold(), engine, rounds=LAST), {})


def deaths(caplog):
    """Agent to the exit codes of its processes."""
    found = {agent: [] for agent in AGENTS}
    for record in caplog.records:
        if record.msg == "agent %r: its process ended with %s":
            agent, exitcode = record.args
            found[agent].append(exitcode)
    return found


def test_agents_that_are_killed_at_named_points_come_back(case, fault_seed, tried, caplog):
    dying = mortal(case, fault_seed, kills=5)
    over(lambda _: ProcessCarrier(dying, AGENTS), case.organisations).play(case.run)
    assert outcome(case.run) == case.calm
    for agent, codes in deaths(caplog).items():
        assert codes == [-signal.SIGKILL] * 5
        tried += Counter(f"agent killed, over processes: {e}" for e in dying.ends(agent)[:5])


def test_agents_that_are_killed_by_their_number_come_back(case, fault_seed, tried, caplog):
    carrier = Deadly(mortal(case), AGENTS, fault_seed)
    over(lambda _: carrier, case.organisations).play(case.run)
    assert outcome(case.run) == case.calm
    codes = [code for each in deaths(caplog).values() for code in each]
    assert set(codes) == {-signal.SIGKILL}
    assert len(codes) > 2
    tried["agent killed, over processes: at any moment, by its number"] += len(codes)


def test_a_coordinator_that_is_killed_over_killed_agents_goes_on(case, fault_seed, tried):
    dying = mortal(case, fault_seed, kills=2)
    world = over(lambda _: ProcessCarrier(dying, AGENTS), case.organisations)
    random = Random(fault_seed)
    for name in random.sample(sorted(ROUNDS), 5):
        if ended(killed, world, case.run, ROUNDS[name], random.randrange(2)):
            tried[f"coordinator killed, over processes: {name}"] += 1
    assert ended(world.play, case.run) == 0
    assert outcome(case.run) == case.calm
