"""A round and a run: order, repeats, bad answers, quorum."""

import json
import logging
import re
from collections import Counter
from dataclasses import replace
from itertools import count
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from llmagentos.codecs import codec_of, pack
from llmagentos.engines import InProcessEngine, Reply
from llmagentos.errors import DivergedError, QuorumError, Refused
from llmagentos.federation import asynchrony, check_finite, measure, run, task_for
from llmagentos.gate import admit, cap_weights
from llmagentos.journal import Answers
from llmagentos.messages import Enrolled, Task, answer, encode
from llmagentos.settings import asked_codec
from llmagentos.strategies import (
    Step,
    fedadagrad,
    fedadam,
    fedavg,
    fedavgm,
    feddyn,
    fednova,
    fedyogi,
    median,
    norm_clipping,
    scaffold,
    trimmed_mean,
)
from tests.quadratics import (
    CURVATURE,
    ROSTER,
    Quadratic,
    Shuffled,
    agents,
    federation,
    first_state,
    layout_of_size,
)

STRATEGIES = {
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "median": median,
    "trimmed_mean": lambda: trimmed_mean(0),
    "norm_clipping": lambda: norm_clipping(1.0),
    "fednova": fednova,
    "scaffold": scaffold,
    "feddyn": feddyn,
}
STEPS = {"steps": 10}


def final(parts):
    """The last state's vectors as bytes."""
    reports = list(run(parts))
    state = parts.journal.state()
    return {name: vector.tobytes() for name, vector in state.vectors().items()}, reports


class Tampered(InProcessEngine):
    """Passes every reply of one agent through a function before it arrives."""

    def __init__(self, agent, change):
        super().__init__(Quadratic(), ROSTER)
        self.agent, self.change, self.polls = agent, change, 0

    def poll(self, timeout_s=None):
        self.polls += 1
        return [
            Reply(agent, self.change(body) if agent == self.agent else body)
            for agent, body in super().poll()
        ]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("seed", range(3))
def test_order_and_repeats_of_answers_change_no_bit(tmp_path, name, seed):
    told = {"strategy": STRATEGIES[name](), "fit": STEPS}
    plain, _ = final(federation(tmp_path / "plain", **told))
    engine = Shuffled(agents(tmp_path / "mixed"), ROSTER, seed)
    mixed, _ = final(federation(tmp_path / "mixed", engine=engine, **told))
    assert mixed == plain


@pytest.mark.parametrize("name", STRATEGIES)
def test_zero_deltas_leave_the_adapter(tmp_path, name):
    resting = Quadratic(lr=0.0)
    parts = federation(tmp_path, strategy=STRATEGIES[name](), trainer=resting, fit=STEPS)
    assert not any(report.refused for report in run(parts))
    assert parts.journal.state().adapter.vector.tolist() == [5.0]


def test_report_of_a_round_says_who_did_what(tmp_path):
    report = next(run(federation(tmp_path)))
    assert report.round == 1
    assert report.weights == {"north": 0.5, "south": 0.5}
    assert report.agents.keys() == CURVATURE.keys()
    assert report.loss == pytest.approx(np.mean(list(report.agents.values())))
    assert report.norms["north"] == pytest.approx(5 - 5 * 0.9**10, rel=1e-6)
    assert report.cosines["matrix"] == [[1, 1], [1, 1]]
    assert report.update_norm == pytest.approx(5 - 1.383789, abs=1e-6)
    assert (report.refused, report.bytes_down) == ({}, 8)
    assert report.product_error is None


def fields_of(body):
    length = int.from_bytes(body[:8], "little")
    return json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["llmagentos"])


def reworded(**changes):
    """A change of an answer's fields that keeps its delta."""

    def change(body):
        fields = fields_of(body) | changes
        return pack(fields, {"delta": np.frombuffer(body[-4:], np.float32)})

    return change


def refilled(delta):
    return lambda body: pack(fields_of(body), {"delta": np.array(delta, np.float32)})


BAD = {
    "weight that is not finite": (reworded(weight=None), "weight nan is not in"),
    "round beyond counting": (reworded(round=2**63), "not an answer"),
    "kind that is no text": (reworded(kind="\ud800"), "not an answer"),
    "metric beyond counting": (reworded(metrics={"loss": 10**400}), "not a plain number"),
    "metric beyond float32": (reworded(metrics={"loss": 1e300}), "its 'loss' is 1e+300"),
    "metric far below zero": (reworded(metrics={"loss": -1e300}), "its 'loss' is -1e+300"),
    "metric that steers a terminal": (reworded(metrics={"\x1b[2J": 1.0}), "not an answer"),
    "vector that steers a terminal": (
        lambda body: pack(fields_of(body), {"\x1b[2J": np.ones(1, "f4")}),
        "not an answer",
    ),
    "names without end": (
        lambda body: pack(fields_of(body), dict.fromkeys(["a" * 4000, "b"], np.ones(1, "f4"))),
        f"it holds {'a' * 120} where its codec sends delta",
    ),
    "metric that is text": (reworded(metrics={"loss": "low"}), "not a plain number"),
    "NaN": (refilled([np.nan]), "1 of 1 values are not finite"),
    "infinite": (refilled([np.inf]), "1 of 1 values are not finite"),
    "a norm beyond squares": (refilled([1e30]), "its 'delta' has norm 1.0e+30, above 9.2e+18"),
    "too long": (refilled([1, 2, 3]), "'delta' has 3 values where its codec sends 1"),
    "empty": (refilled([]), "'delta' has 0 values where its codec sends 1"),
    "other layout": (reworded(layout="0" * 64), "its layout is not the dispatched one"),
    "no weight": (reworded(weight=0.0), "weight 0 is not in"),
    "negative weight": (reworded(weight=-0.5), "weight -0.5 is not in"),
    "weight of a million": (reworded(weight=1e12), "weight 1e+12 is not in"),
    "other run": (reworded(run="feed"), "it answers run 'feed'"),
    "future round": (reworded(round=99), "it answers round 99"),
    "other agent": (reworded(agent="north"), "it answers agent 'north'"),
    "other kind": (reworded(kind="measure"), "it answers kind 'measure'"),
    "truncated": (lambda body: body[:-1], "does not fit the file"),
    "longer": (lambda body: body + b"x", "1 bytes follow the last vector"),
    "pickle": (lambda body: b"\x80\x05K\x01.", "not a wire file"),
    "giant header": (lambda body: b"\xff" * 8 + body[8:], "not a wire file"),
    "nothing": (lambda body: b"", "not a wire file"),
    "extra vector": (
        lambda body: pack(fields_of(body), {"delta": np.ones(1, "f4"), "more": np.ones(1, "f4")}),
        "it holds delta, more where its codec sends delta",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_update_is_refused_alone_and_named(tmp_path, name, caplog):
    change, reason = BAD[name]

    def fits_only(body):
        return change(body) if fields_of(body)["kind"] == "fit" else body

    parts = federation(tmp_path, engine=Tampered("south", fits_only), rounds=1)
    with caplog.at_level(logging.WARNING):
        (report,) = run(parts)
    assert list(report.refused) == ["south"]
    assert reason in report.refused["south"]
    assert "agent 'south', round 1" in caplog.text
    assert report.weights == {"north": 1.0}
    assert parts.journal.state().adapter.vector[0] == pytest.approx(5 * 0.9**10)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: pack(fields_of(body) | {"metrics": {}}, {}), "its held-out loss is inf"),
        (
            lambda body: pack(fields_of(body) | {"metrics": {"loss": None}}, {}),
            "its held-out loss is nan",
        ),
        (refilled([1.0]), "an evaluation carries no vectors"),
    ],
)
def test_a_bad_evaluation_is_refused_alone_and_the_round_closes(tmp_path, change, reason):
    def evaluations_only(body):
        return change(body) if fields_of(body)["kind"] == "evaluate" else body

    parts = federation(tmp_path, engine=Tampered("south", evaluations_only), rounds=1)
    (report,) = run(parts)
    assert list(report.agents) == ["north"]
    assert parts.journal.answers.refusals(1, "evaluate") == {"south": reason}


SPARSE = {"codec": {"name": "top_k", "top_k": 0.1}}


def answered_at_the_ends(values):
    """A task of many blocks, and an answer with these values at both ends."""
    layout = layout_of_size(140_000)
    task = Task("run", 1, "fit", "north", {}, layout, 0, settings=SPARSE)
    delta = np.zeros(layout.size, np.float32)
    delta[[0, -1]] = values
    coded = codec_of(asked_codec(SPARSE)).encode(delta, np.random.default_rng(0))
    return answer(task, vectors=coded), task


def test_a_row_of_many_blocks_is_admitted_with_the_norm_of_all(tmp_path):
    assert admit(*answered_at_the_ends([3, 4])) == 25
    with pytest.raises(Refused, match="2 of 140000 values are not finite"):
        admit(*answered_at_the_ends([np.nan, np.inf]))


def test_an_answer_that_another_agent_gave_before_is_refused_and_not_taken_for_a_late_one(tmp_path):
    bodies = []

    class Borrowed(InProcessEngine):
        def poll(self, timeout_s=None):
            replies = super().poll()
            bodies.extend(reply.body for reply in replies)
            return [
                reply._replace(body=bodies[0])
                if (reply.agent, fields_of(reply.body)["round"]) == ("south", 2)
                else reply
                for reply in replies
            ]

    parts = federation(tmp_path, engine=Borrowed(Quadratic(), ROSTER), rounds=2, deadline_s=100)
    _, second = run(replace(parts, clock=count().__next__))
    assert fields_of(bodies[0])["agent"] == "north"
    assert second.refused == {"south": "it answers round 1, asked was 2"}


def test_damaged_answers_are_asked_for_again(tmp_path):
    bodies = []

    def break_the_first(body):
        bodies.append(body)
        return body[:-1] if len(bodies) == 1 else body

    parts = federation(tmp_path, engine=Tampered("south", break_the_first), rounds=1)
    (report,) = run(parts)
    assert report.refused == {}
    assert bodies[0] == bodies[1]


class Stuttering(InProcessEngine):
    """Says the first thing twice in one breath, cut off."""

    said = False

    def poll(self, timeout_s=None):
        replies = super().poll()
        if self.said:
            return replies
        self.said = True
        return [Reply(agent, body[:-1]) for agent, body in replies] * 2


@pytest.mark.parametrize("play", [run, asynchrony.run], ids=["rounds", "no rounds"])
def test_a_damaged_answer_that_comes_twice_at_once_is_asked_for_again(tmp_path, play):
    engine = Stuttering(Quadratic(), ROSTER)
    (report,) = play(federation(tmp_path, engine=engine, strategy=fedavg(), rounds=1, buffer=2))
    assert report.refused == {}
    assert report.weights.keys() == CURVATURE.keys()


def test_too_few_updates_stop_the_run_and_a_resume_asks_again(tmp_path):
    def spoil(body):
        return refilled([np.nan])(body)

    parts = federation(tmp_path, engine=Tampered("south", spoil), quorum=1.0)
    with pytest.raises(QuorumError, match=r"1 of 2 updates count.*'south': 1 of 1 values"):
        list(run(parts))
    parts.journal.close()
    mended, _ = final(federation(tmp_path, quorum=1.0))
    plain, _ = final(federation(tmp_path / "plain", quorum=1.0))
    assert mended == plain


class Away(Quadratic):
    """Nobody can train."""

    def update(self, task):
        raise TimeoutError


def test_no_round_closes_without_a_single_update(tmp_path):
    with pytest.raises(QuorumError, match=r"round 1: 0 of 2 updates count"):
        list(run(federation(tmp_path, trainer=Away(), quorum=0.0)))


class Stopping(InProcessEngine):
    """Notes whom it asks to train, and is interrupted after the first answer."""

    def __init__(self, answers):
        super().__init__(Quadratic(), ROSTER)
        self.answers, self.asked = answers, []

    def send(self, task):
        self.asked += [task.agent] * (task.kind == "fit")
        super().send(task)

    def poll(self, timeout_s=None):
        if self.answers == 0:
            raise KeyboardInterrupt
        self.answers -= 1
        return super().poll()


def test_who_has_answered_before_a_resume_is_not_asked_again(tmp_path):
    parts = federation(tmp_path, engine=Stopping(answers=1), rounds=1)
    with pytest.raises(KeyboardInterrupt):
        list(run(parts))
    resumed = replace(parts, engine=Stopping(answers=100))
    list(run(resumed))
    assert (parts.engine.asked, resumed.engine.asked) == (["north", "south"], ["south"])


def test_an_evaluation_is_told_nothing_of_the_training(tmp_path):
    by_agent = {"north": {"steps": 2}}
    parts = federation(tmp_path, strategy=feddyn(), by_agent=by_agent)
    state = parts.journal.state()
    assert task_for("north", "evaluate", state, parts).settings == {}
    told = task_for("north", "fit", state, parts).settings
    assert told == {"lr": 0.1, "steps": 2, "correction": "feddyn", "mu": 0.1}


def test_rounds_between_evaluations_change_nothing_but_who_is_asked(tmp_path):
    now_and_then = federation(tmp_path / "seldom", rounds=5, evaluate_every=2)
    every_time = federation(tmp_path / "always", rounds=5)
    seldom, always = list(run(now_and_then)), list(run(every_time))
    assert [report.round for report in seldom if report.agents] == [2, 4]
    assert [report.round for report in seldom if report.loss is not None] == [2, 4]
    assert [seldom[k].agents for k in (1, 3)] == [always[k].agents for k in (1, 3)]
    ends = [parts.journal.state().adapter.vector for parts in (now_and_then, every_time)]
    assert ends[0].tobytes() == ends[1].tobytes()


class Breaking(Quadratic):
    def update(self, task):
        if task.agent == "south":
            raise MemoryError("\x1b[31mno room\n for the batch")
        return super().update(task)


def test_an_agent_that_breaks_is_a_failure_and_the_round_goes_on(tmp_path):
    (report,) = run(federation(tmp_path, trainer=Breaking(), rounds=1))
    assert report.refused == {"south": "MemoryError: ?[31mno room for the batch"}


class Exaggerating(Quadratic):
    def evaluate(self, task):
        return answer(task, metrics={"loss": 1.7e308})


def test_losses_whose_sum_leaves_the_numbers_are_refused_and_the_round_closes(tmp_path):
    parts = federation(tmp_path, trainer=Exaggerating(), rounds=1)
    (report,) = run(parts)
    assert (report.loss, report.agents) == (None, {})
    assert list(parts.journal.answers.refusals(1, "evaluate")) == ["north", "south"]


def test_a_claim_of_a_million_examples_is_capped(tmp_path):
    assert cap_weights({"a": 1.0, "b": 2.0, "c": 1e12}) == {"a": 1.0, "b": 2.0, "c": 20.0}
    assert cap_weights({"a": 1.0, "b": 1e12}) == {"a": 1.0, "b": 1e12}


def test_a_part_of_the_agents_is_drawn_the_same_way_every_time(tmp_path):
    from llmagentos.seeds import generator
    from llmagentos.strategies import draw

    roster = {f"agent{i}": Enrolled(examples=1 + 99 * (i == 0)) for i in range(10)}
    draws = [draw(0.3)(roster, generator(0, r)) for r in range(200)]
    assert draws == [draw(0.3)(roster, generator(0, r)) for r in range(200)]
    assert {len(set(cohort)) for cohort in draws} == {3}
    assert 30 < sum("agent0" in cohort for cohort in draws) < 90


def test_agents_are_drawn_as_often_as_their_examples_say():
    from llmagentos.seeds import generator
    from llmagentos.strategies import draw

    roster = {f"agent{i}": Enrolled(examples=i + 1) for i in range(10)}
    sample = draw(0.5, weighted=True)
    counts = Counter(a for r in range(4000) for a in sample(roster, generator(0, r)))
    assert counts.total() == 5 * 4000
    for i in range(10):  # the largest has 10 of 55: a chance of 10 / 11
        chance = 5 * (i + 1) / 55
        assert abs(counts[f"agent{i}"] - 4000 * chance) < 4 * sqrt(4000 * chance * (1 - chance))


def test_who_has_more_than_a_place_stands_for_is_drawn_every_time():
    from llmagentos.seeds import generator
    from llmagentos.strategies import draw

    roster = {"huge": Enrolled(1000), "big": Enrolled(30)} | {
        f"a{i}": Enrolled(1) for i in range(8)
    }
    cohorts = [draw(0.4, weighted=True)(roster, generator(0, r)) for r in range(800)]
    assert all({"huge", "big"} < set(cohort) and len(set(cohort)) == 4 for cohort in cohorts)
    others = Counter(agent for cohort in cohorts for agent in cohort)
    assert all(150 < others[f"a{i}"] < 250 for i in range(8))


def test_measuring_asks_every_agent_and_is_remembered(tmp_path):
    parts = federation(tmp_path)
    found = measure("evaluate", parts.journal.state(), parts)
    assert found == {"north": {"loss": 12.5}, "south": {"loss": 32.0}}


def test_one_agent_with_plain_descent_is_central_training(tmp_path):
    roster = {"north": Enrolled()}
    parts = federation(tmp_path, engine=InProcessEngine(Quadratic(steps=4), roster), rounds=5)
    list(run(parts))
    assert parts.journal.state().adapter.vector[0] == pytest.approx(5 * 0.9**20, rel=1e-6)


def test_an_answer_is_encoded_to_the_same_bytes_every_time(tmp_path):
    parts = federation(tmp_path)
    task = task_for("north", "fit", parts.journal.state(), parts)
    update = answer(task, vectors={"delta": np.ones(1, np.float32)}, metrics={"b": 1.0, "a": 2.0})
    assert len({encode(update) for _ in range(20)}) == 1


def test_a_server_step_that_leaves_the_numbers_stops_the_run(tmp_path):
    parts = federation(tmp_path, strategy=fedavg(lr=1e39))
    with pytest.raises(DivergedError, match=r"round 1: 1 values .* lower server.lr"):
        list(run(parts))
    assert parts.journal.state().round == 1


def test_a_share_of_the_agents_is_not_rounded_up_by_floating_point(tmp_path):
    roster = {f"agent{i:02}": Enrolled() for i in range(25)}

    class Few(Quadratic):
        def update(self, task):
            if int(task.agent[-2:]) >= 7:
                raise MemoryError("away")
            return answer(task, vectors={"delta": np.ones(1, np.float32)})

    engine = InProcessEngine(Few(), roster)
    parts = federation(tmp_path, engine=engine, quorum=0.28, rounds=1)
    parts.plan.settings.pop("evaluate")
    (report,) = run(parts)
    assert len(report.weights) == 7


def test_the_readmes_strategy_runs(tmp_path):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "median" in b]
    names = {}
    exec(block, names)
    (report,) = run(federation(tmp_path, strategy=names["coordinate_median"](), rounds=1))
    assert report.weights == {"north": 0.5, "south": 0.5}


class Pairs(Quadratic):
    """Makes the updates of two agents together, and notes how often."""

    made = 0

    def fit(self, tasks):
        self.made += 1
        yield [self.update(task) for task in tasks]


def test_updates_that_are_made_together_are_kept_together(tmp_path, monkeypatch):
    parts = federation(tmp_path / "broken", trainer=Pairs(), rounds=1)
    record, recorded = Answers.record, []

    def fails_at_the_second(self, task, *args):
        recorded.append(task.agent)
        if len(recorded) == 2:
            raise OSError("no room")
        record(self, task, *args)

    monkeypatch.setattr(Answers, "record", fails_at_the_second)
    with pytest.raises(OSError, match="no room"):
        list(run(parts))
    assert recorded == ["north", "south"]
    assert parts.journal.answers.admitted(1, "fit") == []
    monkeypatch.undo()
    again = Pairs()
    list(run(replace(parts, engine=InProcessEngine(again, ROSTER))))
    plain, _ = final(federation(tmp_path / "plain", rounds=1))
    assert again.made == 1
    assert {n: v.tobytes() for n, v in parts.journal.state().vectors().items()} == plain


def test_a_moment_that_leaves_the_numbers_stops_the_run():
    full = np.full(1, np.finfo(np.float32).max)
    state = replace(first_state(), moments={"fedadagrad.v": full})
    strategy, longest = fedadagrad(), np.full(1, 9e18, np.float32)
    after = strategy.advance(state, strategy.combine(state, Step([longest], (1.0,))))
    told = r"1 values of the new moments\.fedadagrad\.v are not finite"
    with pytest.raises(DivergedError, match=told):
        check_finite(after)
