"""The federated optimisers against numbers that were worked by hand."""

import numpy as np
import pytest

from llmagentos import kernels
from llmagentos.adapter import Adapter
from llmagentos.codecs import codec_of
from llmagentos.errors import JournalError
from llmagentos.federation import run
from llmagentos.settings import CodecSettings
from llmagentos.state import ServerState
from llmagentos.strategies import Step, fedadagrad, fedadam, fedavg, fedavgm, fedyogi
from tests.quadratics import Quadratic, federation, first_state, layout_of_size

ONE = (1.0,)


def course(folder, **parts):
    """The global x after every round."""
    parts = federation(folder, **parts)
    return [float(parts.journal.state().adapter.vector[0]) for _ in run(parts)]


def steps(strategy, deltas):
    """The adapter after each averaged change, from zero."""
    state = first_state([0.0, 0.0])
    for delta in deltas:
        state = strategy.advance(state, Step([np.array(delta, np.float32)], ONE))
        yield state.adapter.vector


def test_fedavg_on_two_quadratics_goes_where_the_paper_calculation_goes(tmp_path):
    xs = course(tmp_path, rounds=30)
    assert xs[:3] == pytest.approx([1.383789, 0.742409, 0.628652], abs=1e-6)
    assert xs[-1] == pytest.approx(0.604126, abs=1e-6)


def test_fedprox_on_two_quadratics_goes_where_the_paper_calculation_goes(tmp_path):
    xs = course(tmp_path, trainer=Quadratic(mu=1.0), rounds=30)
    assert xs[:3] == pytest.approx([2.28578, 1.261884, 0.875635], abs=1e-6)
    assert xs[-1] == pytest.approx(0.641669, abs=1e-6)


DELTAS = [(1, -2), (0.5, 0.5), (-1, 0)]
FEDADAM = [(0.099005, -0.099501), (0.223605, -0.162551), (0.240909, -0.219581)]


def test_fedadam_takes_the_steps_of_algorithm_2():
    found = list(steps(fedadam(lr=0.1), DELTAS))
    np.testing.assert_allclose(found, FEDADAM, atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "first"),
    [(fedyogi(lr=0.1), (0.099005, -0.099501)), (fedadagrad(lr=0.1), (0.0999, -0.09995))],
    ids=["fedyogi", "fedadagrad"],
)
def test_first_adaptive_step_is_that_of_algorithm_2(strategy, first):
    np.testing.assert_allclose(next(steps(strategy, DELTAS)), first, atol=1e-6)


def test_fedavgm_keeps_a_share_of_the_last_step():
    found = list(steps(fedavgm(lr=0.5, beta=0.5), [(1, 0), (1, 0), (0, 0)]))
    np.testing.assert_allclose(np.array(found)[:, 0], [0.5, 1.25, 1.625])


def test_fedavgm_without_momentum_is_fedavg():
    found = np.array(list(steps(fedavgm(lr=1.0, beta=0.0), DELTAS)))
    assert np.array_equal(found, list(steps(fedavg(), DELTAS)))


RATES = {"beta1": 0.8, "beta2": 0.95, "tau": 0.25}


@pytest.mark.parametrize(
    ("strategy", "step", "rates"),
    [
        (fedavgm(0.5, 0.8), kernels.momentum_step, {"beta": 0.8}),
        (fedadam(0.5, **RATES), kernels.adam_step, RATES),
        (fedyogi(0.5, **RATES), kernels.yogi_step, RATES),
        (fedadagrad(0.5, 0.25), kernels.adagrad_step, {"tau": 0.25}),
    ],
    ids=["fedavgm", "fedadam", "fedyogi", "fedadagrad"],
)
@pytest.mark.parametrize("codec", ["fp32", "int8", "top_k"])
def test_one_pass_over_the_rows_gives_the_bits_of_the_mean_and_then_the_step(
    strategy, step, rates, codec
):
    size, rng = 2**16 + 300, np.random.default_rng(1)
    made = codec_of(CodecSettings(name=codec))
    deltas = [rng.standard_normal(size).astype(np.float32) for _ in range(3)]
    rows = [made.read(made.encode(delta, rng), size) for delta in deltas]
    updates = Step(rows, [0.2, 0.3, 0.5])
    anchor = rng.standard_normal(size).astype(np.float32)
    state = ServerState(1, Adapter(layout_of_size(size), anchor))
    start = [np.zeros(size, np.float32)]
    start += [np.full(size, 0.25**2, np.float32)] * (step is not kernels.momentum_step)
    *moments, x = step(anchor, *start, updates.mean(), lr=0.5, **rates)
    after = strategy.advance(state, updates)
    assert after.adapter.vector.tobytes() == x.tobytes()
    assert [moment.tobytes() for moment in after.moments.values()] == [m.tobytes() for m in moments]


def test_a_row_that_changed_on_the_disk_is_noticed_by_every_optimizer():
    changed = Step([np.ones(2, np.float32)], ONE, squared_norms=(3.0,))
    for strategy in (fedavgm(), fedadam(), fedyogi(), fedadagrad()):
        with pytest.raises(JournalError, match="has changed on the disk"):
            strategy.advance(first_state([0.0, 0.0]), changed)


@pytest.mark.parametrize("steps_", [1, 3])
def test_equal_agents_equal_their_mean(tmp_path, steps_):
    xs = course(tmp_path, trainer=Quadratic(steps=steps_), rounds=1)
    x1, x2 = 5 * 0.9**steps_, 1 + 4 * 0.6**steps_
    assert xs == pytest.approx([(x1 + x2) / 2], abs=1e-6)
