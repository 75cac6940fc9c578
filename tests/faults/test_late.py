"""Real deadlines: who is late is named, a replay has the bits, and clocks may leap."""

import json
import sqlite3
import time
from contextlib import closing
from random import Random

import pytest

from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.strategies import scaffold
from tests.coded import ROSTER
from tests.faults import worlds
from tests.faults.supervising import Supervisor, posted
from tests.faults.walking import Walking
from tests.faults.worlds import World, outcome, rounds_of
from tests.organisations import Organisations

DEADLINE_S = 1.5
CENTURY_S = 100 * 365 * 86400.0
QUICK = {"rounds": 4, "quorum": 0.3, "deadline_s": DEADLINE_S}


class Dawdling(Walking):
    """South takes too long in two of the rounds."""

    def update(self, task):
        if task.agent == "south" and task.round in (1, 3):
            time.sleep(1.5 * DEADLINE_S)
        return super().update(task)


class Recorded(Walking):
    """Only the answers that were in time are given."""

    def __init__(self, answers):
        self.answers = answers

    def update(self, task):
        self.check(task)
        return super().update(task)

    def evaluate(self, task):
        self.check(task)
        return super().evaluate(task)

    def check(self, task):
        if (task.round, task.kind, task.agent) not in self.answers:
            raise TimeoutError


@pytest.fixture
def leaping(monkeypatch):
    """A clock on the wall that is centuries off, another way at every look."""
    random, right = Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: right() + random.uniform(-1, 1) * CENTURY_S)


def rows(run, words):
    with closing(sqlite3.connect(run / "journal" / "journal.sqlite")) as rows:
        return rows.execute(words).fetchall()


def replayed(wild, place):
    """The outcome of a run in which everyone is absent who was late in the other."""
    in_time = rows(wild, "SELECT round, kind, agent FROM answers WHERE body IS NOT NULL")
    trainer = Recorded(set(in_time))

    def engine(run):
        return InProcessEngine(with_memory(trainer, run / "agents"), ROSTER)

    World(rounds_of(scaffold(), engine, rounds=4, quorum=0.3), {}).play(place / "replay")
    return outcome(place / "replay")


def counted(found):
    """What an outcome says of those who were in time."""
    reports = [{**report, "refused": list(report["refused"])} for report in found["reports"]]
    return found["state"], found["members"], found["published"], reports


def late_run(place, seed, kills):
    """A run with a straggler, everyone in a process of its own, and the kills in it."""
    organisations = Organisations(place / "keys", ROSTER, Dawdling())
    world = World(rounds_of(scaffold(), posted(organisations), **QUICK), {})
    return Supervisor(world, organisations, seed, kills).play(place / "wild")


@pytest.mark.parametrize("clock", ["steady", "leaping"])
def test_who_is_late_is_named_and_a_replay_of_the_members_has_the_bits(
    place, clock, request, tried
):
    if clock == "leaping":
        request.getfixturevalue("leaping")
    late_run(place, seed=0, kills=0)
    wild = outcome(place / "wild")
    first = wild["reports"][0]
    assert first["refused"] == {"south": "no answer within 1.5 s"}
    seconds = json.loads((place / "wild" / "metrics.jsonl").read_text().splitlines()[0])["seconds"]
    assert DEADLINE_S <= seconds < 4 * DEADLINE_S
    assert counted(wild) == counted(replayed(place / "wild", place))
    tried["straggler refused at the deadline"] += sum(len(r["refused"]) for r in wild["reports"])


def test_a_late_run_that_is_killed_is_the_replay_of_its_members_too(place, fault_seed, tried):
    tried += late_run(place, fault_seed, kills=6)
    wild = outcome(place / "wild")
    assert any("south" in report["refused"] for report in wild["reports"])
    assert counted(wild) == counted(replayed(place / "wild", place))


def test_a_clock_that_leaps_changes_no_bit_of_a_killed_run(place, leaping, fault_seed, tried):
    World(rounds_of(scaffold(), worlds.here, rounds=4), {}).play(place / "calm")
    organisations = Organisations(place / "keys", ROSTER, Walking())
    world = World(rounds_of(scaffold(), posted(organisations), rounds=4, deadline_s=300), {})
    tried += Supervisor(world, organisations, fault_seed, kills=4).play(place / "wild")
    assert outcome(place / "wild") == outcome(place / "calm")
    (leaps,) = rows(place / "wild", "SELECT max(since) - min(since) FROM asked")[0]
    assert leaps > CENTURY_S / 10
    tried["clock leapt"] += len(rows(place / "wild", "SELECT * FROM asked"))
