"""Which rows and which learning rate belong to a step."""

import pytest

from llmagentos.lm.schedule import row_order
from llmagentos.rates import asked_step_weight, learning_rate
from llmagentos.settings import LocalSettings


def test_every_epoch_of_the_stream_is_a_permutation() -> None:
    stream = row_order(0, "north", rows=7, start=0, count=21)
    epochs = stream.reshape(3, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_any_window_of_the_stream_is_the_same_read_alone() -> None:
    stream = row_order(0, "north", rows=7, start=0, count=50)
    for start, count in [(0, 1), (6, 2), (7, 7), (13, 30)]:
        window = row_order(0, "north", rows=7, start=start, count=count)
        assert window.tolist() == stream[start : start + count].tolist()


def test_agents_and_seeds_have_streams_of_their_own() -> None:
    streams = [row_order(s, a, 50, 0, 50).tolist() for s, a in [(0, "a"), (0, "b"), (1, "a")]]
    assert len(set(map(tuple, streams))) == 3


def rates(horizon: int, rounds: int, **local: object) -> list[float]:
    settings = LocalSettings(**{"steps": 2, "lr": 1.0, **local})
    return [learning_rate(settings, r, s, horizon) for r in range(1, rounds + 1) for s in (0, 1)]


def test_the_warm_up_and_the_schedule_run_across_rounds() -> None:
    assert rates(3, 3, warmup_steps=4, schedule="constant") == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rates(3, 3, warmup_steps=2, schedule="linear") == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert rates(2, 2, schedule="cosine") == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_rounds_beyond_the_horizon_stay_at_the_end_of_the_schedule() -> None:
    assert rates(1, 3, schedule="linear") == [1, 0.5, 0, 0, 0, 0]
    assert rates(1, 3) == [1] * 6


def test_the_step_weight_that_is_asked_for_knows_schedule_round_and_pull() -> None:
    asked = {"steps": 2, "lr": 0.5, "schedule": "linear", "horizon": 2, "unknown": None}
    assert asked_step_weight(asked, 1) == 1.75
    assert asked_step_weight(asked, 2) == 0.75
    assert asked_step_weight({**asked, "mu": 1.0}, 1) == (1 - 0.75 * 0.5) + 0.75
    assert asked_step_weight({"steps": 3}, 1) == 3
