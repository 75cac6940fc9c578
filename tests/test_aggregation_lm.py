"""Parts, ranks and residuals in the trainers, on a real model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from llmagentos.adapter import refit
from llmagentos.aggregation import joined
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import layout_of, load_vector
from llmagentos.lm.residual import beside
from tests.lm_world import evaluate_task, fit_task, start_of, tiny_peft, trainer

IDS = torch.arange(3, 40)[None]


def told(task, **settings):
    return replace(task, settings={**task.settings, **settings})


def delta(training, task):
    return training.update(task).vectors["delta"]


def residual_of(layout, rank, seed=7):
    size = layout.ranked(rank).size
    return np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32)


@pytest.mark.parametrize("part", ["A", "B"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_part_that_is_not_trained_keeps_its_bits(part, optimizer):
    training = trainer(dropout=0.1)
    settings = {"optimizer": optimizer, "weight_decay": 0.1, "mu": 0.1, "steps": 4}
    task = told(fit_task(training.layout, **settings), trained=part)
    moved = delta(training, task)
    trained = training.layout.part(part)
    assert moved[trained].all()
    assert np.delete(moved, np.r_[trained]).tobytes() == bytes(
        4 * (len(moved) - len(moved[trained]))
    )
    side_by_side = CohortTrainer(training, 4)
    tasks = [task, told(fit_task(training.layout, agent="south", **settings), trained=part)]
    (together,) = side_by_side.fit([replace(t, seed=3) for t in tasks])
    for update in together:
        assert not np.delete(update.vectors["delta"], np.r_[trained]).any()


@pytest.mark.parametrize("part", ["A", "B"])
def test_a_part_is_trained_the_same_one_by_one_and_side_by_side(part):
    training = trainer()
    tasks = [
        told(fit_task(training.layout, agent=a, optimizer="sgd", lr=0.5, clip=0.1), trained=part)
        for a in ("north", "south")
    ]
    (together,) = CohortTrainer(training, 4).fit(tasks)
    for task, update in zip(tasks, together, strict=True):
        alone = delta(training, task)
        assert np.linalg.norm(alone - update.vectors["delta"]) < 1e-4 * np.linalg.norm(alone)


def test_clipping_sees_the_trained_part_alone():
    training = trainer()
    settings = {"optimizer": "sgd", "lr": 1.0, "clip": 1e-3, "steps": 1}
    moved = delta(training, told(fit_task(training.layout, **settings), trained="B"))
    assert np.linalg.norm(moved) == pytest.approx(1e-3, rel=1e-3)


def test_a_lower_rank_in_a_wider_model_is_trained_as_in_one_of_its_own():
    """The scale is that of the wider one: alpha 8 at rank 2 as alpha 16 at rank 4."""
    wide, narrow = trainer(rank=4, alpha=16.0), trainer(rank=2, alpha=8.0)
    own = wide.layout.ranked(2)
    assert own.shapes == narrow.layout.shapes
    start = start_of(narrow.layout)
    task = fit_task(own, adapter=start, optimizer="sgd", lr=0.5)
    moved = delta(wide, task)
    expected = delta(narrow, replace(task, layout=narrow.layout))
    assert moved.shape == (own.size,)
    assert np.linalg.norm(moved - expected) < 1e-4 * np.linalg.norm(expected)
    other = fit_task(wide.layout, agent="south", optimizer="sgd", lr=0.5)
    (together,) = CohortTrainer(wide, 4).fit([task, other])
    assert together[0].vectors["delta"].shape == (own.size,)
    found = together[0].vectors["delta"]
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_fewer_modules_in_a_wider_model_are_trained_as_in_one_of_their_own():
    wide, narrow = trainer(), trainer(target_modules=["q_proj"])
    own = wide.layout.at(["q_proj"])
    assert own == narrow.layout
    task = fit_task(own, adapter=start_of(own), optimizer="sgd", lr=0.5)
    expected = delta(narrow, task)
    other = fit_task(wide.layout, agent="south", optimizer="sgd", lr=0.5)
    (together,) = CohortTrainer(wide, 4).fit([task, other])
    for moved in (delta(wide, task), together[0].vectors["delta"]):
        assert moved.shape == (own.size,)
        assert np.linalg.norm(moved - expected) < 1e-4 * np.linalg.norm(expected)


def test_a_residual_of_fewer_modules_is_beside_those_alone():
    wide, narrow = trainer(), trainer(target_modules=["q_proj"])
    own = narrow.layout
    vectors = {"adapter": start_of(own), "residual": residual_of(own, 3)}
    losses = []
    for training in (wide, narrow):
        task = replace(evaluate_task(own), layout=own, vectors=vectors)
        losses.append(training.evaluate(task).metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@torch.no_grad()
def test_a_residual_beside_the_base_is_an_adapter_of_a_higher_rank():
    model, grown = tiny_peft(rank=4, alpha=8.0), tiny_peft(rank=7, alpha=14.0)
    layout = layout_of(model)
    adapter, residual = start_of(layout), residual_of(layout, 3)
    load_vector(model, adapter)
    plain = model(IDS).logits
    with beside(model, layout, residual):
        found = model(IDS).logits
    whole = joined(layout, [adapter, residual])
    assert len(whole) == layout.ranked(7).size
    load_vector(grown, whole)
    assert torch.allclose(found, grown(IDS).logits, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(model(IDS).logits, plain)


@torch.no_grad()
def test_layers_that_store_their_weight_transposed_get_the_residual_the_right_way_round():
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50, n_positions=40)
    torch.manual_seed(0)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["c_attn"], fan_in_fan_out=True)
    model = get_peft_model(GPT2LMHeadModel(config).eval(), lora)
    layout = layout_of(model)
    assert layout.ranked(1).shapes == ((1, 16), (48, 1))
    load_vector(model, np.zeros(layout.size, np.float32))
    residual = residual_of(layout, 2)
    with beside(model, layout, residual):
        found = model(IDS).logits
    load_vector(model, residual)
    merged = model.merge_and_unload()
    assert torch.allclose(found, merged(IDS).logits, atol=1e-5)


def test_training_and_evaluation_see_the_residual_and_the_base_keeps_its_bits():
    training = trainer()
    layout = training.layout
    residual = {"residual": residual_of(layout, 3)}
    before = {n: p.clone() for n, p in training.bench.model.named_parameters() if "lora" not in n}
    task = evaluate_task(layout)
    plain, beside_it = (
        training.evaluate(each).metrics["loss"]
        for each in (task, replace(task, vectors={**task.vectors, **residual}))
    )
    grown = trainer(rank=7, alpha=28.0)
    whole = joined(layout, [task.vectors["adapter"], residual["residual"]])
    expected = replace(task, layout=grown.layout, vectors={"adapter": whole})
    assert beside_it == pytest.approx(grown.evaluate(expected).metrics["loss"], rel=1e-5)
    assert abs(beside_it - plain) > 1e-3
    tasks = [fit_task(layout, agent=a, optimizer="sgd", lr=0.5) for a in ("north", "south")]
    tasks = [replace(t, vectors={**t.vectors, **residual}) for t in tasks]
    (together,) = CohortTrainer(training, 4).fit(tasks)
    for each, update in zip(tasks, together, strict=True):
        alone = delta(training, each)
        assert np.linalg.norm(alone - update.vectors["delta"]) < 1e-4 * np.linalg.norm(alone)
        without = delta(training, fit_task(layout, agent=each.agent, optimizer="sgd", lr=0.5))
        assert np.linalg.norm(alone - without) > 1e-2 * np.linalg.norm(alone)
    after = dict(training.bench.model.named_parameters())
    assert all(torch.equal(values, after[name]) for name, values in before.items())


def test_agents_with_other_residuals_do_not_share_a_batch():
    training = trainer()
    tasks = [fit_task(training.layout, agent=agent) for agent in ("north", "south")]
    tasks[1] = replace(
        tasks[1], vectors={**tasks[1].vectors, "residual": residual_of(training.layout, 1)}
    )
    assert [len(updates) for updates in CohortTrainer(training, 4).fit(tasks)] == [1, 1]


def test_widening_and_cutting_keep_what_fits():
    layout = layout_of(tiny_peft())
    start = start_of(layout)
    wider = refit(start, layout, layout.ranked(9))
    assert np.array_equal(refit(wider, layout.ranked(9), layout), start)
    assert np.count_nonzero(wider) == np.count_nonzero(start)
