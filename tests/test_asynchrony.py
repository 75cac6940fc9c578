"""Runs without common rounds: what counts how much, in which order, and after which accident."""

from dataclasses import replace

import numpy as np
import pytest

from llmagentos.engines import InProcessEngine, PacedEngine
from llmagentos.errors import DivergedError, QuorumError
from llmagentos.federation import asynchrony, run
from llmagentos.memory import folder_name
from llmagentos.messages import Enrolled
from llmagentos.strategies import Step, fedasync, fedavg, fedbuff, scaffold
from llmagentos.strategies.asynchronous import discount
from tests.coded import AGENTS
from tests.coded import federation as coded_federation
from tests.crashing import final_bits, kills_survived
from tests.quadratics import CURVATURE, FIVE, ROSTER, Quadratic, Shuffled, agents, federation
from tests.quadratics import first_state as at_five
from tests.replaying import Replayed, arrivals

SLOW = {"north": 1.0, "south": 10.0}


def paced(folder, seconds=None, trainer=None):
    return PacedEngine(InProcessEngine(agents(folder, trainer), ROSTER), seconds or SLOW)


def course(folder, strategy, rounds=3, **parts):
    """The global x after every flush, and the reports."""
    parts = federation(folder, strategy=strategy, rounds=rounds, **parts)
    reports, xs = [], []
    for report in asynchrony.run(parts):
        reports.append(report)
        xs.append(float(parts.journal.state().adapter.vector[0]))
    return xs, reports


def test_a_buffer_of_everyones_fresh_updates_is_fedavg_bit_for_bit(tmp_path):
    parts = federation(tmp_path / "sync", strategy=fedavg(), rounds=5)
    expected = [float(parts.journal.state().adapter.vector[0]) for _ in run(parts)]
    xs, reports = course(tmp_path / "async", fedbuff(), rounds=5, buffer=2)
    assert xs == expected
    assert all(report.staleness == {"north": 0, "south": 0} for report in reports)


SLOWEST_FIRST = {name: 10.0 - k for k, name in enumerate(sorted(FIVE))}
"""Seconds, so that the agents answer against the order of their names."""


def test_who_of_a_buffer_answers_first_changes_no_bit(tmp_path):
    trainer, roster = Quadratic(curvature=FIVE), dict.fromkeys(FIVE, Enrolled())
    ends = []
    for name, seconds in (("even", dict.fromkeys(FIVE, 1.0)), ("late", SLOWEST_FIRST)):
        engine = PacedEngine(InProcessEngine(agents(tmp_path / name, trainer), roster), seconds)
        xs, (report,) = course(tmp_path / name, fedbuff(), rounds=1, engine=engine, buffer=5)
        ends.append(xs)
        assert list(report.weights) == sorted(FIVE)
    assert ends[0] == ends[1]


def test_a_flush_takes_as_many_as_the_buffer_says_and_the_rest_wait(tmp_path):
    engine = Shuffled(agents(tmp_path, Quadratic(curvature=FIVE)), dict.fromkeys(FIVE, Enrolled()))
    _, reports = course(tmp_path, fedbuff(), rounds=2, engine=engine, buffer=2)
    assert [len(report.weights) for report in reports] == [2, 2]
    assert [report.bytes_down for report in reports] == [2 * 4, 2 * 4]


def test_a_server_step_that_leaves_the_numbers_stops_the_run(tmp_path):
    with pytest.raises(DivergedError, match="round 1: 1 values of the new adapter are not finite"):
        course(tmp_path, fedbuff(lr=1e39))


def test_a_strategy_is_told_what_the_agents_measured_and_how_stale_they_are(tmp_path):
    seen = []

    def combine(state, updates):
        seen.append(updates)
        return updates

    course(tmp_path, replace(scaffold(), combine=combine), rounds=1, buffer=2, fit={"steps": 10})
    assert seen[0].metrics == [{"step_weight": 10.0, "staleness": 0.0}] * 2
    assert seen[0].beside.keys() == {"control", "anchor"}


class Silent(InProcessEngine):
    """Loses the first two tasks for south; time passes when nothing comes."""

    def __init__(self, folder):
        super().__init__(agents(folder), ROSTER)
        self.now, self.asked = 0.0, []

    def clock(self):
        return self.now

    def send(self, task):
        if task.agent == "south":
            self.asked.append(self.now)
            if len(self.asked) <= 2:
                return
        super().send(task)

    def poll(self, timeout_s=None):
        replies = super().poll()
        self.now += 0 if replies else timeout_s
        return replies


def test_a_silent_agent_is_asked_again_until_it_answers(tmp_path):
    engine = Silent(tmp_path)
    told = {"strategy": fedbuff(), "rounds": 1, "buffer": 2, "resend_s": 20.0}
    (report,) = asynchrony.run(
        replace(federation(tmp_path, engine=engine, **told), clock=engine.clock)
    )
    assert engine.asked == [0, 20, 40]
    assert report.weights.keys() == CURVATURE.keys()


def test_the_discounts_are_those_of_the_papers():
    found = [0.6 * discount(s, 0.5) for s in (0, 1, 4)]
    assert found == pytest.approx([0.6, 0.424264, 0.268328], abs=1e-6)


def updates(stale, deltas, anchors):
    rows = [np.array([delta], np.float32) for delta in deltas]
    began = Step([np.array([anchor], np.float32) for anchor in anchors], (0.5, 0.5))
    metrics = [{"staleness": float(tau)} for tau in stale]
    return Step(rows, (0.5, 0.5), metrics=metrics, beside={"anchor": began})


def test_fedbuff_adds_changes_and_fedasync_goes_to_adapters():
    """By hand at x = 5, with updates of 1 from 5 and of -2 from 7 that three steps overtook."""
    state, given = at_five(), updates((0, 3), (1, -2), (5, 7))
    strategy = fedbuff()
    moved = strategy.advance(state, strategy.combine(state, given))
    assert moved.adapter.vector == pytest.approx(5 + (1 - 2 / 2) / 2)
    strategy = fedasync(0.6)
    moved = strategy.advance(state, strategy.combine(state, given))
    assert moved.adapter.vector == pytest.approx(5 + 0.6 * ((6 - 5) + (5 - 5) / 2) / 2)


@pytest.mark.parametrize("lr", [0.6, 1.0])
def test_fedasync_mixes_by_its_rate_and_staleness(tmp_path, lr):
    """By hand: north answers at seconds 1 to 9 from fresh versions, south at 10 from the first."""
    xs, reports = course(tmp_path, fedasync(lr), rounds=10, engine=paced(tmp_path), buffer=1)
    x = 5.0
    for _ in range(9):
        x += lr * (x * 0.9**10 - x)
    assert xs[8] == pytest.approx(x, abs=1e-5)
    alpha = lr / np.sqrt(1 + 9)
    assert [list(report.staleness.items()) for report in reports][8:] == [
        [("north", 0)],
        [("south", 9)],
    ]
    assert xs[9] == pytest.approx(x + alpha * (1 + 4 * 0.6**10 - x), abs=1e-5)


@pytest.mark.parametrize("strategy", [fedbuff(), fedasync()], ids=["fedbuff", "fedasync"])
def test_zero_deltas_leave_the_adapter(tmp_path, strategy):
    engine = paced(tmp_path, trainer=Quadratic(lr=0.0))
    xs, reports = course(tmp_path, strategy, rounds=12, engine=engine)
    assert xs == [5.0] * 12
    assert reports[-3].staleness == {"south": 9}


def test_nobody_waits_for_the_slow_one(tmp_path):
    engine = paced(tmp_path)
    parts = federation(tmp_path, strategy=fedasync(), engine=engine, rounds=9, buffer=1)
    parts = replace(parts, clock=engine.clock)
    assert [report.seconds for report in asynchrony.run(parts)] == [1.0] * 9
    engine = paced(tmp_path / "sync")
    parts = federation(tmp_path / "sync", strategy=fedavg(), engine=engine, rounds=2)
    assert [report.seconds for report in run(replace(parts, clock=engine.clock))] == [10.0] * 2


def test_after_the_last_flush_those_at_work_are_waited_for_and_a_longer_run_takes_them(tmp_path):
    xs, _ = course(tmp_path / "whole", fedasync(), rounds=12, engine=paced(tmp_path / "whole"))
    folder = tmp_path / "parts"
    engine = paced(folder)
    parts = federation(folder, strategy=fedasync(), engine=engine, rounds=9)
    assert len(list(asynchrony.run(parts))) == 9
    assert [a.update.agent for a in parts.journal.answers.waiting()] == ["south"]
    assert parts.journal.answers.open_tasks() == []
    parts.journal.forget(updates=True)
    assert [report.staleness for report in asynchrony.run(longer(parts, 10))] == [{"south": 9}]
    assert float(parts.journal.state().adapter.vector[0]) == xs[9]


def test_an_update_that_is_lost_while_it_waits_is_asked_for_again(tmp_path):
    parts = federation(tmp_path, strategy=fedasync(), engine=paced(tmp_path), rounds=9)
    list(asynchrony.run(parts))
    parts.journal.forget(updates=True)
    rows = parts.journal._rows
    ((waiting,),) = rows.execute("SELECT body FROM waiting")
    parts.journal.close()
    (tmp_path / "cas" / waiting).unlink()
    again = federation(tmp_path, strategy=fedasync(), engine=paced(tmp_path), rounds=10)
    assert again.journal.answers.open_tasks() == [("south", 1)]
    assert [report.staleness for report in asynchrony.run(again)] == [{"north": 0}]
    (south,) = again.journal.answers.waiting()
    assert (south.update.agent, south.update.round) == ("south", 1)


def longer(parts, rounds):
    return replace(parts, plan=replace(parts.plan, rounds=rounds))


def play(folder, strategy):
    """Six flushes of two of three agents, coded with feedback, in the order of a queue."""
    parts = coded_federation(folder, "int8", rounds=6, buffer=2)
    for _ in asynchrony.run(replace(parts, strategy=strategy)):
        parts.journal.forget(updates=True)
    parts.journal.close()
    return final_bits(folder)


@pytest.mark.parametrize("strategy", [fedbuff(), fedasync()], ids=["fedbuff", "fedasync"])
def test_resume_after_a_kill_is_bit_identical(tmp_path, strategy):
    _, reports = play(tmp_path / "calm", strategy)
    stale = [set(report["staleness"].values()) for report in reports]
    assert max(max(found) for found in stale) > 0
    assert kills_survived(tmp_path, play, strategy, stride=17) > 5


def test_a_replay_of_the_journaled_arrivals_gives_the_same_bits(tmp_path):
    speeds = {"east": 1.0, "north": 2.3, "south": 7.1}
    inner = coded_federation(tmp_path / "a", "int8", rounds=8, buffer=2)
    first = replace(inner, strategy=fedbuff(), engine=PacedEngine(inner.engine, speeds))
    list(asynchrony.run(first))
    first.journal.close()
    order = arrivals(tmp_path / "a")
    assert order != sorted(order, key=lambda row: row[1])

    def replayed(trainer, roster):
        return Replayed(trainer, roster, order)

    again = coded_federation(tmp_path / "b", "int8", rounds=8, buffer=2, engine=replayed)
    list(asynchrony.run(replace(again, strategy=fedbuff())))
    again.journal.close()
    assert arrivals(tmp_path / "b") == order
    assert final_bits(tmp_path / "b") == final_bits(tmp_path / "a")


def test_a_receipt_names_the_round_that_the_counted_update_began_at(tmp_path):
    """So what an agent's codec owes is what it kept then, however many flushes have passed."""
    speeds = {"east": 1.0, "north": 2.3, "south": 7.1}
    inner = coded_federation(tmp_path, "int8", rounds=12, buffer=2)
    parts = replace(inner, strategy=fedbuff(), engine=PacedEngine(inner.engine, speeds))
    list(asynchrony.run(parts))
    for agent in AGENTS:
        rounds = [base for name, base in rows_of(parts.journal) if name == agent]
        assert len(set(rounds)) == len(rounds)
        kept = {path.name for path in (tmp_path / "agents" / folder_name(agent)).iterdir()}
        assert kept == {f"round-{base}.safetensors" for base in rounds[-2:]}


def rows_of(journal):
    return journal._rows.execute("SELECT agent, round FROM answers WHERE kind='fit' ORDER BY rowid")


class Failing(Quadratic):
    """South cannot train from the versions in ``bad``."""

    bad = (1,)

    def update(self, task):
        if task.agent == "south" and task.round in self.bad:
            raise MemoryError("no room")
        return super().update(task)


def test_an_agent_that_fails_is_named_and_begins_again_at_the_next_version(tmp_path):
    _, reports = course(tmp_path, fedasync(), rounds=3, trainer=Failing())
    assert [list(report.refused) for report in reports] == [[], ["south"], []]
    assert "no room" in reports[1].refused["south"]
    assert "south" in {agent for report in reports for agent in report.weights}


def test_who_is_refused_while_a_buffer_fills_is_in_the_report_of_its_flush(tmp_path):
    seconds = {"north": 1.0, "south": 2.0, "east": 3.0}
    trainer = agents(tmp_path, Failing(curvature=FIVE))
    engine = PacedEngine(InProcessEngine(trainer, dict.fromkeys(seconds, Enrolled())), seconds)
    _, (report,) = course(tmp_path, fedbuff(), rounds=1, engine=engine, buffer=2)
    assert report.weights.keys() == {"north", "east"}
    assert list(report.refused) == ["south"]


def test_a_buffer_that_nobody_is_left_to_fill_stops_the_run_and_a_resume_asks_again(tmp_path):
    parts = federation(tmp_path, strategy=fedbuff(), trainer=Failing(), rounds=1, buffer=2)
    with pytest.raises(QuorumError, match=r"1 updates, server.buffer=2.*'south': MemoryError"):
        list(asynchrony.run(parts))
    mended = replace(parts, engine=InProcessEngine(agents(tmp_path), ROSTER))
    (report,) = asynchrony.run(mended)
    assert report.weights.keys() == CURVATURE.keys()
    assert parts.journal.state().adapter.vector == pytest.approx(1.383789, abs=1e-6)


class Garbled(InProcessEngine):
    """Every first try of south arrives cut off, or all of them."""

    def __init__(self, folder, tries):
        super().__init__(agents(folder), ROSTER)
        self.tries = tries

    def poll(self, timeout_s=None):
        return [self.spoilt(reply) for reply in super().poll()]

    def spoilt(self, reply):
        if reply.agent != "south" or self.tries == 0:
            return reply
        self.tries -= 1
        return reply._replace(body=reply.body[:-1])


@pytest.mark.parametrize(("tries", "refused"), [(2, []), (3, ["south"])])
def test_an_answer_that_arrives_damaged_is_asked_for_three_times(tmp_path, tries, refused):
    engine = Garbled(tmp_path, tries)
    parts = federation(tmp_path, strategy=fedbuff(), engine=engine, rounds=1, buffer=1)
    assert len(list(asynchrony.run(parts))) == 1
    assert list(parts.journal.answers.refusals(1, "fit")) == refused
    assert engine.tries == 0


def test_states_and_updates_stay_as_long_as_they_are_needed(tmp_path):
    parts = federation(tmp_path, strategy=fedasync(), engine=paced(tmp_path), rounds=14)
    kept = []
    for _ in asynchrony.run(parts):
        parts.journal.forget(updates=True)
        kept.append(len(list((tmp_path / "cas").iterdir())))
    assert kept == [*range(2, 11), 1 + 1, *range(2, 6)]
