"""A run whose agents train side by side: chosen once, recorded, resumed, and as good."""

import json
import logging
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.memory import HOLES, Demand, demand_of, pass_bytes
from llmagentos.lm.models import load_base
from llmagentos.lm.obstacle import obstacle
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.recipes.resolve import with_trainer
from llmagentos.settings import (
    CohortSettings,
    CorpusSettings,
    LocalSettings,
    LoraSettings,
    ModelSettings,
    RunSettings,
    ServerSettings,
)
from tests.crashing import exit_code_of, tune
from tests.lm_world import CPU, SILOS, fit_task, trainer
from tests.test_recipe import bits, metrics, words_for

COHORT = ["--trainer", "cohort", "--cohort.agents", "3", "--lora.dropout", "0.1"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run in groups of three and one that nothing happened to."""
    out = tmp_path_factory.mktemp("cohort")
    assert exit_code_of(tune, words_for(out, *COHORT)) == 0
    return out / "run"


@pytest.mark.parametrize("point", [20, 45, 60, 75, 90, 105, 120, 150])
def test_a_killed_run_ends_with_the_same_bits(undisturbed, tmp_path, point):
    killed = exit_code_of(tune, words_for(tmp_path, *COHORT), point)
    assert killed == -signal.SIGKILL
    begun = (tmp_path / "run" / "settings.yaml").exists()
    words = words_for(tmp_path, "--resume") if begun else words_for(tmp_path, *COHORT)
    assert exit_code_of(tune, words) == 0
    assert bits(tmp_path / "run") == bits(undisturbed)
    assert metrics(tmp_path / "run") == metrics(undisturbed)


def test_losses_are_those_of_the_agents_one_by_one(tmp_path):
    assert exit_code_of(tune, words_for(tmp_path / "a", "--trainer", "single")) == 0
    assert exit_code_of(tune, words_for(tmp_path / "b", "--trainer", "cohort")) == 0
    single, cohort = (metrics(tmp_path / name / "run") for name in "ab")
    for ours, theirs in zip(cohort, single, strict=True):
        assert ours["agents"] == pytest.approx(theirs["agents"], rel=1e-4)
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
    summary = json.loads((tmp_path / "b" / "run" / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]


def test_the_choice_and_the_group_are_recorded(undisturbed, tmp_path):
    assert "trainer: cohort\ncohort:\n  agents: 3\n" in (undisturbed / "settings.yaml").read_text()
    assert exit_code_of(tune, words_for(tmp_path, "--rounds", "1")) == 0
    assert "trainer: single" in (tmp_path / "run" / "settings.yaml").read_text()


def settings(trainer="auto", batch=2, max_tokens=64, **cohort):
    return RunSettings(
        trainer=trainer,
        local=LocalSettings(batch=batch, precision="no"),
        corpus=CorpusSettings(max_tokens=max_tokens),
        cohort=CohortSettings(**cohort),
    )


def test_agents_that_do_not_wait_for_each_other_train_one_by_one(caplog):
    asked = replace(settings("cohort"), server=ServerSettings(strategy="fedbuff"))
    with caplog.at_level(logging.WARNING):
        assert with_trainer(asked, trainer()).trainer == "single"
    assert "no batch in common; agents train one by one" in caplog.text


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (settings(), "cohort"),
        (settings(batch=3), "single"),
        (settings("single"), "single"),
        (settings("cohort", batch=3), "cohort"),
    ],
)
def test_auto_is_cohort_where_a_pass_is_small(asked, chosen):
    decided = with_trainer(asked, trainer())
    assert decided.trainer == chosen
    assert (decided.cohort.agents is None) == (chosen == "single")
    assert with_trainer(decided, trainer()) == decided


def test_a_number_of_agents_overrides_the_budget():
    assert with_trainer(settings(agents=5), trainer()).cohort.agents == 5


def test_an_agent_takes_its_adapter_and_what_its_pass_keeps():
    training = trainer()
    layers = training.bench.model.config.num_hidden_layers
    kept = pass_bytes(training.bench, rows=2, tokens=64)
    demand = demand_of(training.bench, settings())
    assert demand.agent == 24 * training.layout.size + kept + kept // layers + int(HOLES * kept)
    assert demand.logits == 8 * 2 * 64 * training.bench.model.config.vocab_size


@pytest.mark.parametrize("logits", [0, 3, 10**9])
@pytest.mark.parametrize("budget", [0.5e9, 1e9, 1.2e9, 7e9])
def test_a_budget_holds_its_agents_and_not_one_more(logits, budget):
    demand = Demand(10**8, logits)
    agents = demand.agents_within(budget)
    assert demand.of(agents) <= budget < demand.of(agents + 1)
    assert demand.agents_within(1) == 1


def test_a_pass_keeps_what_its_layers_need_and_no_weights():
    training = trainer()
    config = training.bench.model.config
    two, four = (pass_bytes(training.bench, rows=rows, tokens=32) for rows in (2, 4))
    assert four == pytest.approx(2 * two, rel=0.05)
    values = config.num_hidden_layers * 128 * (config.hidden_size + config.intermediate_size)
    assert 4 * values < four < 16 * 4 * values


def test_a_pass_that_is_tried_changes_no_bit_of_the_training():
    training, fresh = trainer(dropout=0.2), trainer(dropout=0.2)
    demand_of(training.bench, settings())
    ours, theirs = (each.update(fit_task(each.layout)) for each in (training, fresh))
    assert np.array_equal(ours.vectors["delta"], theirs.vectors["delta"])


def test_checkpointing_leaves_room_for_more_agents():
    training = trainer()
    plain = settings()
    again = replace(plain, local=replace(plain.local, gradient_checkpointing=True))
    sizes = [demand_of(training.bench, each).agent for each in (plain, again)]
    assert sizes[1] < sizes[0]


def test_what_stands_in_the_way_is_said_and_recorded(caplog):
    training = trainer()
    training.bench.accelerator = SimpleNamespace(num_processes=2, scaler=None)
    with caplog.at_level(logging.WARNING):
        assert with_trainer(settings(), training).trainer == "single"
        assert caplog.text == ""
        assert with_trainer(settings("cohort"), training).trainer == "single"
    assert "trainer='cohort': an agent has 2 processes; agents train one by one" in caplog.text


def single(model):
    return LoraTrainer(model, layout_of(model), SILOS, accelerator=accelerator_for("no", CPU))


def test_a_loss_scale_and_layers_of_other_kinds_stand_in_the_way():
    training = trainer()
    assert obstacle(training) is None
    training.bench.accelerator = SimpleNamespace(num_processes=1, scaler=object())
    assert "fp16" in obstacle(training)
    odd = trainer()
    layer = odd.bench.model.base_model.model.model.layers[0].self_attn.q_proj
    layer.base_layer = torch.nn.Bilinear(1, 1, 1)
    assert "q_proj is a Bilinear, not a plain linear layer" in obstacle(odd)


def test_an_adapter_on_the_head_stands_in_the_way():
    base = load_base(ModelSettings(source="tiny", device="cpu"), seed=0)
    base.model.lm_head.weight = torch.nn.Parameter(base.model.lm_head.weight.clone())
    base.model.requires_grad_(False).config.tie_word_embeddings = False
    model = attach(base, LoraSettings(target_modules=["lm_head"]), seed=0)
    assert (
        obstacle(single(model)) == "base_model.model.lm_head is the head, which sees targets only"
    )
