"""Settings choose strategies: with every number in its place, and the draw that goes with it."""

from dataclasses import replace

import numpy as np
import pytest

from llmagentos.errors import SettingError
from llmagentos.kernels import MOST_ROWS
from llmagentos.messages import Enrolled
from llmagentos.seeds import generator
from llmagentos.settings import ServerSettings
from llmagentos.strategies import (
    Step,
    check_updates,
    draw,
    fedadagrad,
    fedadam,
    fedasync,
    fedavg,
    fedavgm,
    fedbuff,
    feddyn,
    fednova,
    fedyogi,
    krum,
    median,
    multi_krum,
    norm_clipping,
    scaffold,
    strategy_of,
    trimmed_mean,
)
from tests.quadratics import first_state

MADE = {
    "fedavg": ({"lr": 0.3}, fedavg(0.3)),
    "fedavgm": ({"lr": 0.3, "momentum": 0.7}, fedavgm(0.3, 0.7)),
    "fedadam": (
        {"lr": 0.3, "beta1": 0.8, "beta2": 0.95, "tau": 0.1},
        fedadam(0.3, 0.8, 0.95, 0.1),
    ),
    "fedyogi": (
        {"lr": 0.3, "beta1": 0.8, "beta2": 0.95, "tau": 0.1},
        fedyogi(0.3, 0.8, 0.95, 0.1),
    ),
    "fedadagrad": ({"lr": 0.3, "tau": 0.1}, fedadagrad(0.3, 0.1)),
    "median": ({"lr": 0.3}, median(0.3)),
    "trimmed_mean": ({"lr": 0.3, "trim": 2}, trimmed_mean(2, 0.3)),
    "krum": ({"lr": 0.3, "tolerated": 2}, krum(2, 0.3)),
    "multi_krum": ({"lr": 0.3, "tolerated": 2}, multi_krum(2, 0.3)),
    "norm_clipping": ({"lr": 0.3, "clip_norm": 1.5}, norm_clipping(1.5, 0.3)),
    "fednova": ({"lr": 0.3}, fednova(0.3)),
    "scaffold": ({"lr": 0.3}, scaffold(0.3)),
    "feddyn": ({"alpha": 0.4}, feddyn(0.4)),
    "fedbuff": ({"lr": 0.3, "staleness": 0.8}, fedbuff(0.3, 0.8)),
    "fedasync": ({"lr": 0.3, "staleness": 0.8}, fedasync(0.3, 0.8)),
}
"""Settings that differ from the defaults, and the strategy that they describe."""

BY_DEFAULT = {
    "fedavg": fedavg(),
    "fedavgm": fedavgm(),
    "fedadam": fedadam(),
    "fedyogi": fedyogi(),
    "fedadagrad": fedadagrad(),
    "median": median(),
    "trimmed_mean": trimmed_mean(1),
    "krum": krum(1),
    "multi_krum": multi_krum(1),
    "norm_clipping": norm_clipping(1.0),
    "fednova": fednova(),
    "scaffold": scaffold(),
    "feddyn": feddyn(),
    "fedbuff": fedbuff(),
    "fedasync": fedasync(),
}


def updates(round_, agents=7):
    """Updates of three values, with all that a strategy may read of them."""
    rng = np.random.default_rng(round_)
    weights = tuple(np.arange(1, agents + 1) / sum(range(agents + 1)))
    rows, controls, anchors = (
        Step(list(rng.standard_normal((agents, 3), np.float32)), weights) for _ in range(3)
    )
    metrics = [{"staleness": k / 2, "step_weight": 1.0 + k} for k in range(agents)]
    beside = {"control": controls, "anchor": anchors}
    return Step(rows.rows, weights, metrics=metrics, beside=beside, share=0.5)


def bits_after(strategy):
    """All vectors of the state after two steps."""
    state = first_state((5.0, -1.0, 0.5))
    for round_ in (1, 2):
        state = strategy.advance(state, strategy.combine(state, updates(round_)))
    return {name: vector.tobytes() for name, vector in state.vectors().items()}


@pytest.mark.parametrize("name", MADE)
def test_settings_describe_the_strategy_of_their_name_and_numbers(name):
    settings, expected = MADE[name]
    found = strategy_of(ServerSettings(strategy=name, **settings))
    assert bits_after(found) == bits_after(expected)
    assert (found.least, found.told) == (expected.least, expected.told)


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_a_strategy_and_its_settings_have_the_same_defaults(name):
    expected = bits_after(BY_DEFAULT[name])
    assert bits_after(strategy_of(ServerSettings(strategy=name))) == expected
    assert bits_after(MADE[name][1]) != expected


TEN = {f"agent{i}": Enrolled(examples=1 + 99 * (i == 0)) for i in range(10)}


@pytest.mark.parametrize("sampling", ["uniform", "weighted"])
def test_settings_say_who_is_drawn(sampling):
    strategy = strategy_of(ServerSettings(fraction=0.3, sampling=sampling))
    expected = draw(0.3, weighted=sampling == "weighted")
    for round_ in range(20):
        rngs = (generator(0, round_) for _ in range(2))
        found, wanted = (
            sample(TEN, rng) for sample, rng in zip((strategy.sample, expected), rngs, strict=True)
        )
        assert found == wanted == sorted(found)


def test_at_least_one_agent_is_drawn_however_small_the_share():
    assert len(draw(0.01)(TEN, generator(0, 1))) == 1


@pytest.mark.parametrize(
    ("settings", "agents", "enough"),
    [
        ({"strategy": "krum", "tolerated": 1}, 5, True),
        ({"strategy": "krum", "tolerated": 1}, 4, False),
        ({"strategy": "trimmed_mean", "trim": 1, "fraction": 0.5}, 6, True),
        ({"strategy": "trimmed_mean", "trim": 1, "fraction": 0.5}, 4, False),
    ],
)
def test_a_full_round_has_to_have_enough_updates_for_its_rule(settings, agents, enough):
    settings = ServerSettings(**settings)
    if enough:
        check_updates(settings, agents)
        return
    name, needed = settings.strategy, strategy_of(settings).least
    with pytest.raises(SettingError, match=rf"server\.strategy='{name}': needs {needed} updates"):
        check_updates(settings, agents)


@pytest.mark.parametrize("strategy", ["median", "trimmed_mean"])
def test_a_full_round_has_to_have_no_more_updates_than_its_rule_sorts(strategy):
    check_updates(ServerSettings(strategy=strategy), MOST_ROWS)
    check_updates(ServerSettings(strategy=strategy, fraction=0.5), 2 * MOST_ROWS)
    with pytest.raises(
        SettingError, match="takes at most 256 updates a round, and 257 agents give"
    ):
        check_updates(ServerSettings(strategy=strategy), MOST_ROWS + 1)


def test_other_rules_take_any_number_of_updates():
    for strategy in ("fedavg", "krum", "norm_clipping"):
        check_updates(ServerSettings(strategy=strategy), 100_000)


OPTIMIZERS = {"m": fedavgm(), "adam": fedadam(), "yogi": fedyogi(), "adagrad": fedadagrad()}


@pytest.mark.parametrize("before", OPTIMIZERS)
@pytest.mark.parametrize("after", OPTIMIZERS)
def test_no_server_optimizer_takes_anothers_moments_for_its_own(before, after):
    def moved(name, state):
        return OPTIMIZERS[name].advance(state, OPTIMIZERS[name].combine(state, updates(1)))

    first = moved(before, first_state((5.0, -1.0, 0.5)))
    went_on, afresh = moved(after, first), moved(after, replace(first, moments={}))
    same = np.array_equal(went_on.adapter.vector, afresh.adapter.vector)
    assert same == (before != after)
