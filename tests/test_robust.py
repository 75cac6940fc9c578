"""Rules that liars cannot carry away: worked numbers, their properties, and too few agents."""

from dataclasses import replace

import numpy as np
import pytest

from llmagentos import kernels
from llmagentos.codecs import CodedRow
from llmagentos.engines import InProcessEngine
from llmagentos.errors import JournalError, QuorumError, SettingError
from llmagentos.federation import run
from llmagentos.messages import Enrolled
from llmagentos.settings import ServerSettings
from llmagentos.strategies import (
    Step,
    fedavg,
    krum,
    median,
    multi_krum,
    norm_clipping,
    strategy_of,
    trimmed_mean,
)
from tests.quadratics import FIVE, Quadratic, Shuffled, federation, first_state

FIVE_AGENTS = {name: Enrolled() for name in FIVE}
HONEST = [(1, 2, 3), (1.1, 2.1, 2.9), (0.9, 1.8, 3.2), (1.06, 2.03, 3.05), (1.2, 1.9, 2.8)]
LIARS = [(10, -10, 50), (-8, 7, -20)]
ROWS = [np.array(row, np.float32) for row in HONEST + LIARS]

WORKED = {
    "fedavg": (fedavg(), (1.037143, 0.975714, 6.421429)),
    "median": (median(), (1.06, 2.0, 3.0)),
    "trimmed_mean": (trimmed_mean(2), (1.053333, 1.976667, 2.983333)),
    "krum": (krum(2), (1.1, 2.1, 2.9)),
    "multi_krum": (multi_krum(2), (1.052, 1.966, 2.99)),
}
ROBUST = [name for name in WORKED if name != "fedavg"]


def combined(strategy, rows, norms=()):
    step = Step(rows, [1 / len(rows)] * len(rows), norms)
    return strategy.combine(first_state(), step).mean()


def coded(rows):
    return [CodedRow(lambda a, b, row=row: row[a:b], len(row)) for row in rows]


@pytest.mark.parametrize("name", WORKED)
def test_rules_give_the_worked_numbers(name):
    strategy, expected = WORKED[name]
    np.testing.assert_allclose(combined(strategy, ROWS), expected, atol=6e-7)


@pytest.mark.parametrize("name", WORKED)
def test_coded_rows_give_the_same_bits(name):
    rows = list(np.random.default_rng(0).standard_normal((7, 70_000), np.float32))
    plain = combined(WORKED[name][0], rows)
    assert combined(WORKED[name][0], coded(rows)).tobytes() == plain.tobytes()


@pytest.mark.parametrize("name", ROBUST)
def test_the_order_of_the_agents_changes_little(name):
    forwards = combined(WORKED[name][0], ROWS)
    np.testing.assert_allclose(combined(WORKED[name][0], ROWS[::-1]), forwards, rtol=1e-6)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("lie", [1e6, -1e6, np.inf, np.nan])
def test_two_liars_of_seven_leave_the_result_among_the_honest(name, lie):
    rows = ROWS[:5] + [np.full(3, lie, np.float32)] * 2
    result = combined(WORKED[name][0], rows)
    assert (result >= np.min(HONEST, axis=0) - 1e-6).all()
    assert (result <= np.max(HONEST, axis=0) + 1e-6).all()


def test_nothing_trimmed_is_the_mean():
    np.testing.assert_allclose(combined(trimmed_mean(0), ROWS), combined(fedavg(), ROWS), rtol=1e-6)


def test_a_median_of_two_is_between_them():
    assert combined(median(), ROWS[:2]).tolist() == np.float32([1.05, 2.05, 2.95]).tolist()


def test_a_median_of_one_is_that_one():
    assert combined(median(), ROWS[:1]).tolist() == ROWS[0].tolist()


def test_of_equal_scores_the_first_agents_come_first():
    """Twenty updates twice as long as the other twenty, all at right angles to each other."""
    rows = list(np.diag(np.repeat(np.float32([2, 1]), 20)))
    step = Step(rows, [1 / 40] * 40)
    (best,) = krum(3).combine(first_state(), step).rows
    assert best is rows[20]
    kept = multi_krum(3).combine(first_state(), step).rows
    assert [id(row) for row in kept] == [id(row) for row in rows[:17] + rows[20:]]


def test_the_updates_that_multi_krum_keeps_stay_in_their_order():
    kept = multi_krum(2).combine(first_state(), Step(ROWS, [1 / 7] * 7)).rows
    assert [id(row) for row in kept] == [id(row) for row in ROWS[:5]]


def test_long_updates_are_shortened_and_short_ones_left():
    rows = [np.float32([3, 4]), np.float32([0.1, 0.2])]
    np.testing.assert_allclose(combined(norm_clipping(1.0), rows[:1]), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(combined(norm_clipping(1.0), rows), [0.35, 0.5], rtol=1e-6)
    known = combined(norm_clipping(1.0), rows, (25.0, kernels.inspect(rows[1]).squared_norm))
    assert known.tobytes() == combined(norm_clipping(1.0), coded(rows)).tobytes()


@pytest.mark.parametrize(
    ("strategy", "enough"), [(trimmed_mean(2), 5), (krum(2), 7), (multi_krum(1), 5)]
)
def test_too_few_updates_are_an_error(strategy, enough):
    combined(strategy, ROWS[:enough])
    with pytest.raises(QuorumError, match=f"{enough - 1} updates are too few.*needs {enough}"):
        combined(strategy, ROWS[: enough - 1])


@pytest.mark.parametrize("name", ROBUST)
def test_a_row_that_changed_on_the_disk_is_noticed(name):
    norms = tuple(kernels.inspect(row).squared_norm for row in ROWS)
    combined(WORKED[name][0], ROWS, norms)
    with pytest.raises(JournalError, match="changed on the disk"):
        combined(WORKED[name][0], ROWS, tuple(norm + 1 for norm in norms))


def test_a_round_with_too_few_for_the_rule_can_be_resumed(tmp_path):
    with pytest.raises(QuorumError, match=r"2 of 2 updates count.*server.strategy want 5"):
        list(run(federation(tmp_path, strategy=krum(1))))


@pytest.mark.parametrize("strategy", [krum(1), multi_krum(1), trimmed_mean(2)])
def test_order_and_repeats_of_five_answers_change_no_bit(tmp_path, strategy):
    ends = []
    for name, kind in (("ordered", InProcessEngine), ("shuffled", Shuffled)):
        engine = kind(Quadratic(curvature=FIVE), FIVE_AGENTS)
        parts = federation(tmp_path / name, strategy=strategy, engine=engine)
        list(run(parts))
        ends.append(parts.journal.state().adapter.vector.tobytes())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("strategy", [krum(1), multi_krum(1)])
def test_zero_deltas_of_five_leave_the_adapter(tmp_path, strategy):
    engine = InProcessEngine(Quadratic(lr=0.0, curvature=FIVE), FIVE_AGENTS)
    parts = federation(tmp_path, strategy=strategy, engine=engine)
    list(run(parts))
    assert parts.journal.state().adapter.vector.tolist() == [5.0]


class Lying(Quadratic):
    """One of the five sends the opposite of its change, a thousandfold."""

    def update(self, task):
        true = super().update(task)
        if task.agent != "west":
            return true
        return replace(true, vectors={"delta": true.vectors["delta"] * -1000})


@pytest.mark.parametrize("strategy", [median(), trimmed_mean(1), krum(1), multi_krum(1)])
def test_a_run_with_a_liar_ends_near_the_honest_optimum(tmp_path, strategy):
    engine = InProcessEngine(Lying(curvature=FIVE), FIVE_AGENTS)
    parts = federation(tmp_path, strategy=strategy, engine=engine, rounds=6)
    list(run(parts))
    assert -1.0 <= parts.journal.state().adapter.vector[0] <= 2.0


def test_settings_choose_the_rule():
    for name, least in (("median", 1), ("trimmed_mean", 5), ("krum", 7), ("multi_krum", 7)):
        strategy = strategy_of(ServerSettings(strategy=name, trim=2, tolerated=2))
        assert (strategy.needs, strategy.least) == ("rows", least)
    clipping = strategy_of(ServerSettings(strategy="norm_clipping", clip_norm=1.0))
    np.testing.assert_allclose(combined(clipping, [np.float32([3, 4])]), [0.6, 0.8], rtol=1e-6)
    assert ServerSettings(strategy="krum").server_lr == 1.0


@pytest.mark.parametrize("wrong", [{"trim": -1}, {"tolerated": -1}, {"clip_norm": 0.0}])
def test_wrong_settings_are_named(wrong):
    (name,) = wrong
    with pytest.raises(SettingError, match=f"server.{name}="):
        ServerSettings(**wrong)
