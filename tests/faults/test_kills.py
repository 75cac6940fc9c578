"""Hundreds of kills at named points: every run ends as the undisturbed one."""

import pytest

from llmagentos.engines import with_memory
from llmagentos.strategies import fedadam, fedbuff, feddyn, scaffold
from tests.coded import ROSTER
from tests.faults import worlds
from tests.faults.crash_points import AVERAGING, COORDINATOR, DESK, MEMORY, SENDING, TRAINING
from tests.faults.killing import Kills
from tests.faults.supervising import Supervisor, posted
from tests.faults.walking import Walking
from tests.faults.worlds import World, factors_of, outcome, rounds_of, without_rounds
from tests.organisations import Organisations
from tests.replaying import Replayed, arrivals

TOGETHER = {"coordinator": COORDINATOR | AVERAGING, "agent": TRAINING | MEMORY}
AT_DESKS = {"coordinator": COORDINATOR | AVERAGING, "agent": TRAINING | MEMORY | DESK}
PLAIN = {"coordinator": COORDINATOR | AVERAGING, "agent": TRAINING}

WORLDS = {
    "fedadam": lambda keys: World(rounds_of(fedadam(), worlds.here, "fp32"), PLAIN),
    "scaffold, int8": lambda keys: World(rounds_of(scaffold(), worlds.here), TOGETHER),
    "feddyn, int8": lambda keys: World(rounds_of(feddyn(), worlds.here), TOGETHER),
    "fedex": lambda keys: World(factors_of("fedex"), {"coordinator": COORDINATOR, "agent": MEMORY}),
    "fedbuff, int8": lambda keys: without_rounds(
        parts=rounds_of(fedbuff(), worlds.here, rounds=6, buffer=2), points=TOGETHER
    ),
    "scaffold, int8, haunted": lambda keys: World(rounds_of(scaffold(), worlds.Haunted), TOGETHER),
    "scaffold, int8, at desks": lambda keys: World(
        rounds_of(scaffold(), worlds.at_desks(keys)), AT_DESKS
    ),
    "scaffold, int8, at haunted desks": lambda keys: World(
        rounds_of(scaffold(), worlds.at_haunted_desks(keys)), AT_DESKS
    ),
    "fedbuff, int8, at desks": lambda keys: without_rounds(
        parts=rounds_of(fedbuff(), worlds.at_desks(keys), rounds=6, buffer=2), points=AT_DESKS
    ),
}


@pytest.mark.parametrize("kills", [50, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WORLDS)
def test_a_run_that_is_killed_again_and_again_ends_as_the_undisturbed(
    place, name, kills, fault_seed, tried
):
    world = WORLDS[name](place / "keys")
    assert Kills(world, place / "runs", fault_seed, tried).survived(kills) >= kills


@pytest.mark.parametrize("name", ["scaffold, int8, at haunted desks", "scaffold, int8, haunted"])
def test_answers_that_come_twice_late_and_out_of_order_are_counted_once(place, name):
    calm, haunted = WORLDS["scaffold, int8"](place / "a"), WORLDS[name](place / "b")
    for run, world in (("calm", calm), ("haunted", haunted)):
        world.play(place / run)
    assert len(list((place / "haunted" / "heard").iterdir())) >= 24
    assert outcome(place / "haunted") == outcome(place / "calm")


@pytest.mark.parametrize("runs", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_coordinator_and_agents_apart_are_all_killed_in_one_run(place, runs, fault_seed, tried):
    World(rounds_of(scaffold(), worlds.here, rounds=8), {}).play(place / "calm")
    organisations = Organisations(place / "keys", ROSTER, Walking())
    world = World(rounds_of(scaffold(), posted(organisations), rounds=8), {})
    for run in range(runs):
        kills = Supervisor(world, organisations, 100 * fault_seed + run, kills=12)
        tried += kills.play(place / f"wild{run}")
        assert outcome(place / f"wild{run}") == outcome(place / "calm")


@pytest.mark.parametrize("runs", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_without_rounds_they_end_as_a_replay_of_their_arrivals(place, runs, fault_seed, tried):
    organisations = Organisations(place / "keys", ROSTER, Walking())
    plan = {"strategy": fedbuff(), "rounds": 12, "buffer": 2}
    world = without_rounds(parts=rounds_of(**plan, engine=posted(organisations)), points={})
    for run in range(runs):
        wild, calm = place / f"wild{run}", place / f"calm{run}"
        kills = Supervisor(world, organisations, 100 * fault_seed + run, kills=12)
        tried += kills.play(wild)
        order = arrivals(wild / "journal")

        def replayed(path, order=order):
            return Replayed(with_memory(Walking(), path / "agents"), ROSTER, order)

        without_rounds(parts=rounds_of(**plan, engine=replayed), points={}).play(calm)
        assert outcome(wild) == outcome(calm)


def test_every_point_is_a_call_that_there_is():
    for points in (COORDINATOR, AVERAGING, TRAINING, MEMORY, DESK, SENDING):
        for name, point in points.items():
            assert callable(getattr(point.owner, point.name, None)), name
