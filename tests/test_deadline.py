"""Rounds with a deadline: who is late is refused in that round, by a clock that is injected."""

import logging
from dataclasses import replace

import pytest

from llmagentos.engines import InProcessEngine, Reply
from llmagentos.errors import QuorumError, SettingError
from llmagentos.federation import measure, run
from llmagentos.federation.patience import Patience
from llmagentos.messages import Enrolled
from llmagentos.recipes.resolve import resolved
from llmagentos.settings import RunSettings, ServerSettings
from tests.quadratics import CURVATURE, Quadratic, federation

ROSTER = {name: Enrolled() for name in CURVATURE}


class Clock:
    """Seconds that pass only when somebody waits."""

    now = 1000.0

    def __call__(self):
        return self.now


class Slow(InProcessEngine):
    """Answers at once, but for south's first update, which takes ``seconds`` by the clock."""

    def __init__(self, clock, seconds):
        super().__init__(Quadratic(), ROSTER)
        self.clock, self.ready = clock, clock() + seconds
        self.sent, self.held = [], []

    def send(self, task):
        self.sent.append((task.kind, task.round, task.agent, self.clock()))
        super().send(task)

    def poll(self, timeout_s=None):
        replies = super().poll()
        if replies and replies[0].agent == "south" and self.clock() < self.ready:
            self.held += replies
            return []
        if not replies:
            assert timeout_s is not None, "this would wait for ever"
            self.clock.now += min(timeout_s, max(self.ready - self.clock(), timeout_s / 2))
        if self.clock() >= self.ready:
            self.held, replies = [], self.held + replies
        return replies


class Silent(InProcessEngine):
    """Loses the first ``losses`` tasks for south; time passes when nothing comes."""

    def __init__(self, clock, losses):
        super().__init__(Quadratic(), ROSTER)
        self.clock, self.losses, self.asked = clock, losses, []

    def send(self, task):
        if task.agent == "south":
            self.asked.append(self.clock())
            if len(self.asked) <= self.losses:
                return
        super().send(task)

    def poll(self, timeout_s=None):
        replies: list[Reply] = super().poll()
        if not replies:
            self.clock.now += timeout_s
        return replies


def timed(folder, engine, **plan):
    return replace(federation(folder, engine=engine, **plan), clock=engine.clock)


def test_a_round_closes_at_its_deadline_with_a_quorum(tmp_path):
    engine = Slow(Clock(), seconds=90)
    first, second = run(timed(tmp_path, engine, rounds=2, deadline_s=60))
    assert first.weights == {"north": 1.0}
    assert first.refused == {"south": "no answer within 60 s"}
    assert first.seconds >= 60
    assert second.weights == {"north": 0.5, "south": 0.5}
    assert second.refused == {}


def test_an_answer_that_is_late_counts_in_no_round(tmp_path, caplog):
    engine = Slow(Clock(), seconds=61)
    with caplog.at_level(logging.INFO):
        late = timed(tmp_path / "late", engine, rounds=2, deadline_s=60)
        list(run(late))
    assert "fit of agent 'south', round 1: late or again; dropped" in caplog.text
    absent = federation(tmp_path / "absent", trainer=AbsentFirst(), rounds=2)
    list(run(absent))
    assert late.journal.state().vectors() == absent.journal.state().vectors()


class AbsentFirst(Quadratic):
    """South has no update in round 1."""

    def update(self, task):
        if (task.agent, task.round) == ("south", 1):
            raise TimeoutError
        return super().update(task)


def test_without_a_quorum_at_the_deadline_the_run_stops_and_a_resume_asks_again(tmp_path):
    parts = timed(tmp_path / "late", Slow(Clock(), seconds=90), quorum=1.0, deadline_s=60)
    with pytest.raises(QuorumError, match=r"1 of 2 updates count.*'south': no answer within 60 s"):
        list(run(parts))
    parts.journal.close()
    resumed = federation(tmp_path / "late", quorum=1.0)
    plain = federation(tmp_path / "plain", quorum=1.0)
    for parts in (resumed, plain):
        list(run(parts))
    assert resumed.journal.state().vectors() == plain.journal.state().vectors()


def test_an_evaluation_has_the_same_deadline(tmp_path):
    engine = Silent(Clock(), losses=1)
    parts = timed(tmp_path, engine, deadline_s=60)
    assert measure("evaluate", parts.journal.state(), parts) == {"north": {"loss": 12.5}}
    assert engine.clock() == 1060


def test_a_silent_agent_is_asked_again_until_it_answers(tmp_path):
    engine = Silent(Clock(), losses=2)
    (report,) = run(timed(tmp_path, engine, rounds=1, deadline_s=60, resend_s=20))
    assert engine.asked[:3] == [1000, 1020, 1040]
    assert report.weights == {"north": 0.5, "south": 0.5}


def test_without_a_deadline_a_silent_agent_is_asked_for_ever(tmp_path):
    engine = Silent(Clock(), losses=100)
    (report,) = run(timed(tmp_path, engine, rounds=1, resend_s=20))
    assert engine.clock() == 1000 + 100 * 20
    assert report.refused == {}


def test_patience_waits_for_what_comes_first():
    clock = Clock()
    patience = Patience(60, 25, clock)
    assert patience.due(["north", "south"]) == ["north", "south"]
    assert patience.left(["north", "south"]) == 25
    clock.now += 10
    patience.again("south")
    assert patience.due(["north", "south"]) == ["south"]
    assert patience.left(["north", "south"]) == 15
    clock.now += 45
    assert patience.left(["north"]) == 0
    clock.now += 5
    assert patience.over


def test_patience_without_limits_waits_for_ever():
    patience = Patience(None, None, Clock())
    assert patience.due(["north"]) == ["north"]
    assert patience.left(["north"]) is None
    assert not patience.over


@pytest.mark.parametrize("name", ["deadline_s", "resend_s"])
def test_a_deadline_is_above_nothing(name):
    with pytest.raises(SettingError, match=rf"server.{name}=0: needs to be above 0"):
        ServerSettings(**{name: 0})


@pytest.mark.parametrize("name", ["deadline_s", "resend_s"])
def test_nobody_is_late_where_agents_train_one_after_the_other(name):
    server = ServerSettings(**{name: 60.0})
    with pytest.raises(SettingError, match=rf"server.{name}=60.0: .*use processes"):
        RunSettings(server=server)
    assert RunSettings(engine="processes", server=server).server == server


@pytest.mark.parametrize(
    ("engine", "given", "found"),
    [("flower", None, 1800.0), ("flower", 60.0, 60.0), ("ray", None, None), ("ray", 60.0, 60.0)],
)
def test_a_silent_agent_is_asked_again_by_default_where_answers_can_be_lost(engine, given, found):
    settings = RunSettings(engine=engine, server=ServerSettings(resend_s=given))
    assert resolved(settings).server.resend_s == found
