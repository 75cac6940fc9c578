"""Rounds that ask more agents than they wait for, on a clock that jumps from answer to answer."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.engines import InProcessEngine, PacedEngine
from llmagentos.errors import SettingError
from llmagentos.federation import run
from llmagentos.messages import Enrolled
from llmagentos.settings import RunSettings, ServerSettings
from llmagentos.strategies import fedavg
from tests.crashing import interrupt
from tests.quadratics import FIVE, Quadratic, agents, federation

SECONDS = {"north": 1.0, "south": 2.0, "east": 3.0, "centre": 4.0, "west": 10.0}
QUICK = sorted(set(FIVE) - {"west"})


class Broken(Quadratic):
    """North can never train."""

    def update(self, task):
        if task.agent == "north":
            raise TimeoutError
        return super().update(task)


def paced(folder, *, seconds=SECONDS, trainer=None, **plan):
    """A federation of five whose fit tasks take as long as ``seconds`` says."""
    trainer = agents(folder, trainer or Quadratic(curvature=FIVE))
    engine = PacedEngine(InProcessEngine(trainer, {name: Enrolled() for name in FIVE}), seconds)
    parts = federation(folder, engine=engine, **{"spare": 0.2, **plan})
    return replace(parts, clock=engine.clock)


def quick_ones(_roster: object, _rng: np.random.Generator) -> list[str]:
    return QUICK


OF_QUICK = replace(fedavg(), sample=quick_ones)


def test_a_round_is_as_fast_as_the_agents_that_it_waits_for(tmp_path):
    reports = list(run(paced(tmp_path, rounds=2)))
    assert [report.seconds for report in reports] == [4.0, 4.0]
    for report in reports:
        assert sorted(report.weights) == QUICK
        assert report.refused == {"west": "no answer before 4 others"}
        assert sorted(report.agents) == QUICK


def test_who_was_spared_leaves_no_trace_when_the_answer_comes(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        late = paced(tmp_path / "late", rounds=4)
        list(run(late))
    assert "fit of agent 'west', round 1: late or again; dropped" in caplog.text
    absent = paced(tmp_path / "absent", rounds=4, strategy=OF_QUICK, spare=0.0)
    list(run(absent))
    assert late.journal.state().vectors() == absent.journal.state().vectors()


def test_an_update_that_is_refused_does_not_count(tmp_path):
    (report,) = run(paced(tmp_path, rounds=1, trainer=Broken(curvature=FIVE)))
    assert report.seconds == 10.0
    assert sorted(report.weights) == sorted(set(FIVE) - {"north"})
    assert list(report.refused) == ["north"]


def test_no_round_closes_before_its_quorum(tmp_path):
    (report,) = run(paced(tmp_path, rounds=1, spare=0.6, quorum=0.7))
    assert len(report.weights) == 4


@pytest.mark.parametrize("point", ["decide", "close_round"])
def test_a_killed_round_closes_with_whom_it_had_waited_for(tmp_path, point):
    whole = paced(tmp_path / "whole", rounds=2)
    list(run(whole))

    parted = paced(tmp_path / "parted", rounds=1)
    interrupt(parted, point)
    parted.journal.close()
    reverse = dict(zip(SECONDS, reversed(SECONDS.values()), strict=True))
    first, second = run(paced(tmp_path / "parted", rounds=2, seconds=reverse))
    assert sorted(first.weights) == QUICK
    assert "west" in second.weights
    before = whole.journal.reports()[0]["agents"]
    both = first.agents.keys() & before.keys()
    assert len(both) >= 3
    assert all(first.agents[agent] == before[agent] for agent in both)


def test_a_round_that_was_decided_closes_without_whom_a_resume_asks_besides(tmp_path):
    first = paced(tmp_path, rounds=1, strategy=OF_QUICK, spare=0.0)
    interrupt(first)
    (report,) = run(replace(first, strategy=fedavg()))
    assert sorted(report.weights) == QUICK


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: ServerSettings(spare=1.0), r"server.spare=1.0: needs to lie in \[0, 1\)"),
        (lambda: RunSettings(server=ServerSettings(spare=0.5)), "one agent after the other"),
        (
            lambda: RunSettings(
                engine="processes", server=ServerSettings(strategy="fedbuff", spare=0.5)
            ),
            "waits for nobody",
        ),
    ],
)
def test_what_spare_does_not_go_with_is_named(made, message):
    with pytest.raises(SettingError, match=message):
        made()


def test_engines_that_work_at_once_take_it():
    assert RunSettings(engine="processes", server=ServerSettings(spare=0.5)).server.spare == 0.5
