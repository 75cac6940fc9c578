"""SCAFFOLD, FedDyn and FedNova: what agents do to the mean is put right, and nothing gets lost."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.codecs import pack, unpack
from llmagentos.engines import InProcessEngine
from llmagentos.errors import JournalError
from llmagentos.federation import run
from llmagentos.memory import folder_name
from llmagentos.strategies import Step, draw, fedavg, feddyn, fednova, scaffold
from tests.crashing import final_bits, kills_survived
from tests.quadratics import CURVATURE, FIVE, ROSTER, Quadratic, agents, federation, first_state

BEST = 0.8
"""Where the mean of the two quadratics is least; FedAvg ends at 0.604126."""
TEN = {"steps": 10}
CORRECTED = pytest.mark.parametrize(
    ("strategy", "keeps"),
    [(scaffold(), "control"), (feddyn(1.0), "dual")],
    ids=["scaffold", "feddyn"],
)


def course(folder, strategy, **parts):
    """The global x after every round."""
    parts = federation(folder, strategy=strategy, **{"fit": TEN, **parts})
    xs = [float(parts.journal.state().adapter.vector[0]) for _ in run(parts)]
    parts.journal.close()
    return xs


def kept(folder, journal, agent, name):
    """What an agent keeps that the server counts on: zero before a round has counted it."""
    receipt = journal.receipt(agent, journal.state().round)
    if receipt is None:
        return np.zeros(1)
    path = folder / "agents" / folder_name(agent) / "correction" / f"round-{receipt}.safetensors"
    return unpack(path.read_bytes())[1][name].astype(np.float64)


@CORRECTED
def test_corrected_agents_end_where_the_mean_is_least(tmp_path, strategy, keeps):
    assert course(tmp_path, strategy, rounds=40)[-1] == pytest.approx(BEST, abs=1e-6)


def test_scaffold_starts_as_fedavg_and_then_takes_the_steps_of_the_paper(tmp_path):
    """By hand: c_i = (5 - y_i) / (10 * 0.1), c is their mean, and y descends g - c_i + c."""
    y = np.array([5 * 0.9**10, 1 + 4 * 0.6**10])
    first, own = y.mean(), 5 - y
    bent = own.mean() - own
    home = np.array([0 - bent[0], 1 - bent[1] / 4])
    second = (home + (first - home) * [0.9**10, 0.6**10]).mean()
    assert course(tmp_path, scaffold(), rounds=2) == pytest.approx([first, second], abs=1e-6)
    assert first == pytest.approx(1.383789, abs=1e-6)


def test_feddyn_takes_the_steps_of_the_paper(tmp_path):
    """The first by hand: h is minus alpha times the mean change, so x takes that change twice."""
    xs = course(tmp_path, feddyn(0.1), rounds=4)
    slope, level = np.array([1.1, 4.1]), np.array([0.5, 4.5])
    change = (level / slope - 5) * (1 - (1 - 0.1 * slope) ** 10)
    assert xs[0] == pytest.approx(5 + 2 * change.mean(), abs=1e-5)
    assert xs == pytest.approx([-2.011, -1.046, 0.450, 0.845], abs=1e-3)


def test_a_step_by_hand_is_one_of_all_agents():
    row = Step([np.float32([2])], [1.0])
    state = scaffold().advance(first_state(), replace(row, beside={"control": row}))
    assert state.moments["control"].tolist() == [2.0]


def test_scaffold_of_one_step_is_descent_of_the_mean(tmp_path):
    xs = course(tmp_path, scaffold(), fit={"steps": 1}, rounds=4)
    assert xs == pytest.approx([BEST + 4.2 * 0.75**r for r in range(1, 5)], abs=1e-5)


def half_of(agents_, rng):
    return draw(0.5)(agents_, rng)


@pytest.mark.parametrize("codec", ["fp32", "int8"])
@pytest.mark.parametrize("sample", [draw(), half_of], ids=["all", "half"])
def test_the_controls_of_the_agents_add_up_to_that_of_the_server(tmp_path, codec, sample):
    """With a lossy codec what is still owed counts for the server, too."""
    told = {**TEN, "codec": {"name": codec}}
    parts = federation(
        tmp_path, strategy=replace(scaffold(), sample=sample), fit=told, rounds=12, quorum=0.5
    )
    for report in run(parts):
        journal = parts.journal
        total = sum(kept(tmp_path, journal, agent, "control") for agent in CURVATURE)
        owed = sum(owed_by(tmp_path, journal, agent) for agent in CURVATURE)
        c = journal.state().moments["control"]
        assert total - owed == pytest.approx(2 * c.astype(np.float64), abs=1e-5)
        assert report.bytes_down == 8 * len(report.weights)


def owed_by(folder, journal, agent):
    receipt = journal.receipt(agent, journal.state().round)
    path = folder / "agents" / folder_name(agent) / f"round-{receipt}.safetensors"
    return unpack(path.read_bytes())[1]["control"] if path.exists() else 0.0


@CORRECTED
def test_half_of_the_agents_at_a_time_end_there_too(tmp_path, strategy, keeps):
    xs = course(tmp_path, replace(strategy, sample=half_of), rounds=100)
    assert xs[-1] == pytest.approx(BEST, abs=1e-4)


def spoilt(vector, values):
    """South's answer of round 2 with other values in one of its vectors."""

    class Spoilt(InProcessEngine):
        def poll(self, timeout_s=None):
            return [reply._replace(body=self.changed(reply.body)) for reply in super().poll()]

        def changed(self, body):
            fields, vectors = unpack(body)
            if (fields["agent"], fields["round"], fields["kind"]) != ("south", 2, "fit"):
                return body
            return pack(fields, {**vectors, vector: np.array(values, np.float32)})

    return Spoilt


@CORRECTED
def test_a_round_that_did_not_count_an_agent_is_undone_at_the_agent(tmp_path, strategy, keeps):
    engine = spoilt("delta", [np.nan])(agents(tmp_path), ROSTER)
    parts = federation(tmp_path, strategy=strategy, engine=engine, fit=TEN, rounds=40)
    reports = run(parts)
    next(reports)
    before = kept(tmp_path, parts.journal, "south", keeps)
    assert list(next(reports).refused) == ["south"]
    assert kept(tmp_path, parts.journal, "south", keeps) == before
    list(reports)
    assert parts.journal.state().adapter.vector == pytest.approx(BEST, abs=1e-5)


@pytest.mark.parametrize(
    ("vector", "values", "reason"),
    [
        ("control", [np.inf], "1 of 1 values of 'control' are not finite"),
        ("control", [1, 2], "'control' in place of 'delta': 'delta' has 2 values"),
        ("more", [1], "it holds delta, more where its codec sends delta"),
    ],
)
def test_a_second_vector_passes_the_same_gate(tmp_path, vector, values, reason):
    engine = spoilt(vector, values)(agents(tmp_path), ROSTER)
    parts = federation(tmp_path, strategy=scaffold(), engine=engine, fit=TEN, rounds=2)
    assert reason in list(run(parts))[1].refused["south"]


def test_a_control_that_leaves_the_numbers_is_refused_as_such(tmp_path):
    class Bursting(Quadratic):
        def update(self, task):
            update = super().update(task)
            burst = {"delta": np.float32([9e18])} if task.agent == "south" else update.vectors
            return replace(update, vectors=burst)

    told = {"strategy": scaffold(), "fit": {"steps": 1, "lr": 1e-21}, "rounds": 1}
    (report,) = run(federation(tmp_path, trainer=Bursting(lr=1e-21), **told))
    assert report.refused == {"south": "1 of 1 values of 'control' are not finite"}


def test_an_update_without_its_control_is_refused(tmp_path):
    engine = InProcessEngine(Quadratic(), ROSTER)
    parts = federation(tmp_path, strategy=scaffold(), engine=engine, fit=TEN, quorum=0.5, rounds=1)
    with pytest.raises(Exception, match="'control' in place of 'delta': it holds nothing"):
        list(run(parts))


@CORRECTED
def test_an_agent_that_lost_what_the_server_counts_on_says_so(tmp_path, strategy, keeps):
    parts = federation(tmp_path, strategy=strategy, fit=TEN, rounds=2)
    reports = run(parts)
    next(reports)
    shutil.rmtree(tmp_path / "agents" / folder_name("south"))
    refused = next(reports).refused
    assert list(refused) == ["south"]
    assert "has lost what the agent kept after round 1" in refused["south"]


def play(folder, strategy):
    """Four rounds with a lossy codec."""
    told = {**TEN, "codec": {"name": "bf16"}}
    parts = federation(folder, strategy=strategy, fit=told, rounds=4)
    for _ in run(parts):
        parts.journal.forget(updates=True)
    parts.journal.close()
    return final_bits(folder)


@pytest.mark.parametrize(
    "strategy", [scaffold(), feddyn(), fednova()], ids=["scaffold", "feddyn", "fednova"]
)
def test_resume_after_a_kill_is_bit_identical(tmp_path, strategy):
    assert kills_survived(tmp_path, play, strategy, stride=11) > 10


def test_what_a_correction_keeps_and_what_a_codec_owes_do_not_touch(tmp_path):
    told = {**TEN, "codec": {"name": "int8"}}
    parts = federation(tmp_path, strategy=scaffold(), fit=told, rounds=3)
    list(run(parts))
    for agent in CURVATURE:
        folder = tmp_path / "agents" / folder_name(agent)
        assert {"correction", "round-3.safetensors"} <= {path.name for path in folder.iterdir()}
        assert unpack((folder / "round-3.safetensors").read_bytes())[1].keys() == {
            "delta",
            "control",
        }
        assert len(list((folder / "correction").iterdir())) == 2


def test_the_ledger_counts_both_vectors(tmp_path):
    told = {**TEN, "codec": {"name": "bf16"}}
    (both,) = run(federation(tmp_path / "2", strategy=scaffold(), fit=told, rounds=1))
    (one,) = run(federation(tmp_path / "1", strategy=fedavg(), fit=told, rounds=1))
    assert both.bytes_up_fp32 - both.bytes_up == 2 * 2 * 2
    assert one.bytes_up_fp32 - one.bytes_up == 2 * 2
    assert both.bytes_up > one.bytes_up


UNEVEN = {"north": {"steps": 2}, "south": {"steps": 20}}


def test_fednova_of_equal_steps_is_fedavg_bit_for_bit(tmp_path):
    for steps in (1, 3, 10):
        told = {"fit": {"steps": steps}, "rounds": 5}
        ours = course(tmp_path / f"nova{steps}", fednova(), **told)
        assert ours == course(tmp_path / f"avg{steps}", fedavg(), **told)


@CORRECTED
def test_none_may_leave_or_join_where_the_server_sums_up_what_agents_keep(
    tmp_path, strategy, keeps
):
    def played(*names):
        roster = dict.fromkeys(names, ROSTER["north"])
        engine = InProcessEngine(agents(tmp_path, Quadratic(curvature=FIVE)), roster)
        parts = federation(tmp_path, strategy=strategy, engine=engine, fit=TEN)
        try:
            return next(run(parts)).round
        finally:
            parts.journal.close()

    assert played("east", "north", "south") == 1
    with pytest.raises(JournalError, match=r"'south' joined or left since .*init_adapter"):
        played("east", "north")
    with pytest.raises(JournalError, match="'west' joined or left since"):
        played("east", "north", "south", "west")
    assert played("south", "east", "north") == 2


def test_fednova_takes_the_step_of_equation_7(tmp_path):
    """By hand: deltas of 2 and 20 steps, tau = 11, weights 11/2/2 and 11/20/2."""
    deltas = 5 * (0.9**2 - 1), 4 * (0.6**20 - 1)
    expected = 5 + 11 * (deltas[0] / 2 + deltas[1] / 20) / 2
    xs = course(tmp_path, fednova(), by_agent=UNEVEN, rounds=1)
    assert xs == pytest.approx([expected], abs=1e-6)


def test_with_small_steps_fednova_of_uneven_agents_finds_the_best_and_fedavg_does_not():
    """FedAvg minimises the sum that counts each f_i by its steps: 2 x + 20 * 4 (x - 1) = 0."""
    assert descended(fednova(), lr=1e-4) == pytest.approx(BEST, abs=1e-3)
    assert descended(fedavg(), lr=1e-4) == pytest.approx(80 / 82, abs=1e-3)


def descended(strategy, lr, rounds=5000):
    """Where agents of 2 and 20 steps lead after many rounds."""
    state, taken = first_state(), np.array([2, 20])
    slope, best = np.array(list(CURVATURE.values())).T
    metrics = [{"step_weight": float(steps)} for steps in taken]
    for _ in range(rounds):
        deltas = (state.adapter.vector - best) * ((1 - lr * slope) ** taken - 1)
        rows = [np.array([delta], np.float32) for delta in deltas]
        step = strategy.combine(state, Step(rows, (0.5, 0.5), metrics=metrics))
        state = strategy.advance(state, step)
    return float(state.adapter.vector[0])


@pytest.mark.parametrize("counted", [0.0, -1.0, 1e-12, 9.9, 10.5, float("nan")])
def test_another_step_count_than_that_of_the_task_is_refused(tmp_path, counted):
    class Boasting(Quadratic):
        def update(self, task):
            update = super().update(task)
            boast = {"step_weight": counted} if task.agent == "south" else update.metrics
            return replace(update, metrics=boast)

    parts = federation(tmp_path, strategy=fednova(), trainer=Boasting(), fit=TEN, rounds=1)
    (report,) = run(parts)
    assert f"its step_weight is {counted:g}, that of its task is 10" in report.refused["south"]
