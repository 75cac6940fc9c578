"""What methods make of single rounds, held to their formulas."""

from dataclasses import replace

import numpy as np
import pytest

from llmagentos.adapter import initial_vector
from llmagentos.aggregation import METHODS, aggregated
from llmagentos.aggregation.residual import factors_of
from llmagentos.messages import answer
from llmagentos.strategies import Step, fedavg
from tests.lora_world import LAYOUT, Homing, first_state, layout_of, played, settings_of

WITH_RULE = [name for name, method in METHODS.items() if method.rule]


def rows_of(method, layout, agents=3):
    size = layout.only(METHODS[method].sent_in(1)).size
    return [np.random.default_rng(k).standard_normal(size, np.float32) for k in range(agents)]


def test_hetlora_counts_an_agent_in_proportion_to_the_norm_of_its_product(tmp_path):
    trainer = Homing()
    _, parts = played(tmp_path, "hetlora", trainer=trainer, rounds=1)
    ends = [
        task.vectors["adapter"] + trainer.update(task).vectors["delta"]
        for task in trainer.seen
        if task.kind == "fit"
    ]
    products = [[pair.dense() for pair in factors_of(LAYOUT, end)] for end in ends]
    norms = [np.sqrt(sum(np.square(layer).sum() for layer in each)) for each in products]
    expected = np.average(np.float64(ends), axis=0, weights=norms)
    np.testing.assert_allclose(parts.journal.state().adapter.vector, expected, atol=1e-6)
    assert np.ptp(norms) > 1


def test_flora_starts_every_round_from_first_factors_of_its_own(tmp_path):
    for round_ in (1, 2):
        _, parts = played(tmp_path / str(round_), "flora", rounds=round_)
        found = parts.journal.state().adapter.vector
        assert found.tobytes() == initial_vector(LAYOUT, 0, round_).tobytes()


def test_a_large_ridge_keeps_lora_fair_at_the_averages(tmp_path):
    ends = {}
    for name, method, server in (
        ("plain", "zero_pad", {}),
        ("held", "lora_fair", {"ridge": 1e9}),
        ("free", "lora_fair", {}),
    ):
        settings = settings_of(method, **server)
        _, parts = played(tmp_path / name, method, settings=settings, rounds=1)
        ends[name] = parts.journal.state().adapter.vector
    np.testing.assert_allclose(ends["held"], ends["plain"], atol=1e-6)
    assert np.abs(ends["free"] - ends["plain"]).max() > 1e-2


@pytest.mark.parametrize("method", WITH_RULE)
def test_a_step_that_says_of_no_lack_is_of_agents_that_have_all(method):
    strategy, state = aggregated(fedavg(), settings_of(method)), first_state()
    silent = Step(rows_of(method, LAYOUT), [0.2, 0.3, 0.5])
    told = replace(silent, lacking=[frozenset()] * 3)
    assert (
        strategy.advance(state, silent).adapter.vector.tobytes()
        == strategy.advance(state, told).adapter.vector.tobytes()
    )


@pytest.mark.parametrize("method", WITH_RULE)
def test_an_adapter_of_a_single_layer_is_aggregated_too(method):
    layout = layout_of([(9, 8)])
    strategy = aggregated(fedavg(), settings_of(method))
    after = strategy.advance(first_state(layout), Step(rows_of(method, layout), [0.2, 0.3, 0.5]))
    assert after.adapter.layout == layout
    assert np.isfinite(after.adapter.vector).all()


class Resting(Homing):
    """Nobody moves."""

    def update(self, task):
        return answer(task, vectors={"delta": np.zeros(task.layout.size, np.float32)})


def test_nothing_is_missed_of_products_of_nothing(tmp_path):
    reports, _ = played(tmp_path, "naive", trainer=Resting(), rounds=1)
    assert reports[0].product_error == 0


def test_further_vectors_of_a_strategy_go_to_the_agents_with_their_part():
    strategy, state = aggregated(fedavg(), settings_of("ffa")), first_state()
    further = np.ones(3, np.float32)
    vectors = {"adapter": state.adapter.vector, "further": further}
    given = strategy.share(state, vectors, "north", None).vectors
    assert given["further"].tobytes() == further.tobytes()
