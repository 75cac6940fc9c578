"""Agents side by side end where they end one by one."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from llmagentos.lm.cohort import CohortTrainer, groups
from llmagentos.lm.lora import layout_of, lora_layers
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.stacked import StackedAdapter
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update
from tests.lm_world import CPU, evaluate_task, fit_task, silo, start_of, tiny_peft

pytestmark = pytest.mark.usefixtures("one_thread")

AGENTS = {"east": silo("east", 3, 5), "north": silo("north", 1), "south": silo("south", 2, 7)}


def one_by_one(**lora: Any) -> LoraTrainer:
    model = tiny_peft(**lora)
    return LoraTrainer(model, layout_of(model), AGENTS, accelerator=accelerator_for("no", CPU))


def tasks(training: LoraTrainer, *each: dict[str, Any], **local: Any) -> list[Task]:
    """A fit task for every agent, with settings of its own after those of all."""
    own = each or ({},) * len(AGENTS)
    layout = training.layout
    return [
        fit_task(layout, agent=agent, **{**local, **special})
        for agent, special in zip(AGENTS, own, strict=True)
    ]


def both(given: list[Task], training: LoraTrainer) -> list[tuple[Update, Update]]:
    """The updates of every task, one by one and side by side."""
    alone = [update for (update,) in training.fit(given)]
    (together,) = CohortTrainer(training, 8).fit(given)
    assert [update.agent for update in together] == [task.agent for task in given]
    return list(zip(alone, together, strict=True))


def distance(alone: Update, together: Update) -> float:
    """How far apart two updates are, in lengths of the first."""
    ours, theirs = together.vectors["delta"], alone.vectors["delta"]
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


PLAIN = {"optimizer": "sgd", "clip": 0.0, "lr": 0.5}


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"]])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_gradients_are_those_of_the_agents_alone(targets, checkpointing, accumulation) -> None:
    training = one_by_one(target_modules=targets)
    how = {"gradient_checkpointing": checkpointing, "accumulation": accumulation}
    for alone, together in both(tasks(training, steps=1, **PLAIN, **how), training):
        assert distance(alone, together) < 1e-5
        assert together.metrics["train_loss"] == pytest.approx(alone.metrics["train_loss"])


ROUNDS = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "lr": 0.1},
    "decay": {"weight_decay": 0.1},
    "decay of sgd": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.1},
    "proximal": {"mu": 0.5},
    "clipped": {"optimizer": "sgd", "lr": 1.0, "clip": 0.05},
    "free": {"clip": 0.0},
    "scheduled": {"schedule": "cosine", "warmup_steps": 3},
    "checkpointed": {"gradient_checkpointing": True},
    "accumulated": {"accumulation": 3, "batch": 2},
}


@pytest.mark.parametrize("name", ROUNDS)
def test_a_round_ends_where_it_ends_one_by_one(name) -> None:
    training = one_by_one(target_modules=["all-linear"])
    for alone, together in both(tasks(training, steps=5, **ROUNDS[name]), training):
        assert distance(alone, together) < 1e-3
        assert together.weight == alone.weight
        for metric in ("train_loss", "examples", "tokens"):
            assert together.metrics[metric] == pytest.approx(alone.metrics[metric], rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "checkpointed", "accumulated"])
def test_dropout_is_an_agents_own_whoever_trains_beside_it(name) -> None:
    training = one_by_one(target_modules=["all-linear"], dropout=0.3)
    given = tasks(training, steps=4, **ROUNDS[name])
    for alone, together in both(given, training):
        assert distance(alone, together) < 1e-3
    (pair,) = CohortTrainer(training, 8).fit(given[:2])
    assert distance(training.update(given[1]), pair[1]) < 1e-3


def test_agents_may_differ_in_steps_rates_pull_and_clipping() -> None:
    training = one_by_one()
    special = {"steps": 2, "mu": 3.0}, {"steps": 6, "lr": 3e-2}, {"steps": 4, "clip": 0.01}
    for alone, together in both(tasks(training, *special, optimizer="sgd", lr=0.1), training):
        assert distance(alone, together) < 1e-4
        assert together.metrics["train_loss"] == pytest.approx(alone.metrics["train_loss"])


def test_agents_may_start_from_different_adapters() -> None:
    training = one_by_one()
    start = start_of(training.layout)
    given = [
        replace(task, vectors={"adapter": start * np.float32(factor)})
        for task, factor in zip(tasks(training), (1, 2, 3), strict=True)
    ]
    assert all(distance(*pair) < 1e-3 for pair in both(given, training))


def test_every_clipped_row_is_as_long_as_it_may_be() -> None:
    from llmagentos.lm.cohort_train import clip_rows

    rows = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]])
    clip_rows(rows, [1.0, 0.0, 1.0])
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [3.0, 4.0], [0.3, 0.4]]))


def deltas(training: LoraTrainer, agents: int = 8, **local: Any) -> list[np.ndarray]:
    found = CohortTrainer(training, agents).fit(tasks(training, **local))
    return [update.vectors["delta"] for group in found for update in group]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_cohort_ends_with_the_same_bits_every_time(checkpointing) -> None:
    training = one_by_one(dropout=0.2)
    first = deltas(training, gradient_checkpointing=checkpointing)
    deltas(training, lr=0.1)
    again = deltas(training, gradient_checkpointing=checkpointing)
    assert all(map(np.array_equal, first, again))
    assert all(
        map(
            np.array_equal,
            first,
            deltas(one_by_one(dropout=0.2), gradient_checkpointing=checkpointing),
        )
    )


def test_dropout_is_drawn_again_alike_where_activations_are() -> None:
    training = one_by_one(dropout=0.2)
    kept, again = (
        deltas(training, gradient_checkpointing=wanted, steps=1, **PLAIN) for wanted in (0, 1)
    )
    for ours, theirs in zip(kept, again, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_dropout_follows_the_seed_and_acts() -> None:
    training, plain = one_by_one(dropout=0.2), one_by_one()
    given = tasks(training)
    (first,) = CohortTrainer(training, 8).fit(given)
    (other,) = CohortTrainer(training, 8).fit([replace(task, seed=4) for task in given])
    assert not np.array_equal(first[0].vectors["delta"], other[0].vectors["delta"])
    assert not np.array_equal(first[0].vectors["delta"], deltas(plain)[0])


def test_a_cohort_leaves_no_trace_in_what_is_trained_alone() -> None:
    training, fresh = one_by_one(dropout=0.2), one_by_one(dropout=0.2)
    deltas(training)
    task = tasks(training)[0]
    ours, theirs = training.update(task), fresh.update(task)
    assert np.array_equal(ours.vectors["delta"], theirs.vectors["delta"])
    held = evaluate_task(training.layout)
    assert training.evaluate(held).metrics == fresh.evaluate(held).metrics


def test_the_base_is_not_touched_and_layers_are_themselves_after_an_error() -> None:
    training = one_by_one()
    model = training.bench.model
    before = {name: p.detach().clone() for name, p in model.base_model.model.named_parameters()}
    stack = StackedAdapter(training.layout, torch.zeros(2, training.layout.size))
    with pytest.raises(RuntimeError, match="other positions"), stack.on(model):
        model(input_ids=torch.ones(2, 3, dtype=torch.int64))
    assert not any("forward" in vars(layer) for layer in lora_layers(model).values())
    deltas(training)
    after = dict(model.base_model.model.named_parameters())
    frozen = [name for name in before if "lora_" not in name]
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_groups_are_consecutive_alike_and_stay_when_others_are_taken_away() -> None:
    training = one_by_one()
    given = [fit_task(training.layout, agent=str(n), batch=2 if n == 4 else 4) for n in range(8)]
    named = [[task.agent for task in group] for group in groups(given, 3)]
    assert named == [["0", "1", "2"], ["3"], ["4"], ["5", "6", "7"]]
    rest = [task for task in given if task.agent not in named[0]]
    assert [[task.agent for task in group] for group in groups(rest, 3)] == named[1:]


def test_a_group_comes_together_and_a_group_of_one_trains_alone() -> None:
    training = one_by_one()
    given = tasks(training)
    found = list(CohortTrainer(training, 2).fit(given))
    assert [[update.agent for update in group] for group in found] == [["east", "north"], ["south"]]
    alone = training.update(given[2]).vectors["delta"]
    assert np.array_equal(found[1][0].vectors["delta"], alone)


def test_what_cannot_train_side_by_side_is_said_and_trains_one_by_one(monkeypatch, caplog) -> None:
    training = one_by_one()

    def no_room(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("llmagentos.lm.cohort.train_cohort", no_room)
    with caplog.at_level(logging.WARNING):
        found = list(CohortTrainer(training, 8).fit(tasks(training)))
    assert [len(group) for group in found] == [1, 1, 1]
    assert "east, north, south train one by one, because side by side: out of mem" in caplog.text


def test_an_agent_that_breaks_breaks_alone(tmp_path) -> None:
    from llmagentos.engines import InProcessEngine
    from llmagentos.messages import Failure, decode

    training = one_by_one()
    known = tasks(training)
    engine = InProcessEngine(CohortTrainer(training, 8), {})
    for task in (known[0], replace(known[1], agent="west"), known[2]):
        engine.send(task)
    answers = []
    while replies := engine.poll():
        answers += [decode(body) for _, body in replies]
    assert [type(answer) for answer in answers] == [Update, Failure, Update]
    assert "no silo for agent 'west'" in answers[1].reason


def test_steps_of_a_cohort_pass_through_the_tracker() -> None:
    training = one_by_one()
    seen = []
    training.track = lambda items, label: seen.append((label, len(items))) or items
    list(CohortTrainer(training, 8).fit(tasks(training)))
    assert seen == [("3 agents: fit", 3)]


def test_bf16_autocast_trains_as_it_does_one_by_one() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    try:
        model = tiny_peft()
        mixed = Accelerator(cpu=True, mixed_precision="bf16")
        training = LoraTrainer(model, layout_of(model), AGENTS, accelerator=mixed)
        local = {"optimizer": "sgd", "lr": 0.1, "precision": "bf16"}
        assert all(distance(*pair) < 0.03 for pair in both(tasks(training, **local), training))
    finally:
        AcceleratorState._reset_state()
