"""Pairs of factors at embeddings: B A is added to the table of tokens the other way round."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from llmagentos.aggregation import joined
from llmagentos.errors import SettingError
from llmagentos.lm.lora import attach, layout_of, load_vector
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import load_base
from llmagentos.lm.obstacle import obstacle
from llmagentos.lm.residual import beside
from llmagentos.recipes import evaluate
from llmagentos.settings import LoraSettings
from tests.crashing import exit_code_of, tune
from tests.gpt2_world import IDS, adapted, answers_alike, drawn, gpt2_in, training_on
from tests.lm_world import fit_task
from tests.test_recipe import words_for

# what PEFT asks of transformers when it loads an adapter
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

LORA = LoraSettings(rank=4, target_modules=["wte", "wpe", "c_attn"])
TOKENS = "base_model.model.transformer.wte"


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    return gpt2_in(tmp_path_factory.mktemp("gpt2"), tied=False)


def test_factors_have_the_names_and_the_shapes_of_peft(untied):
    base = load_base(untied, 0)
    plain = base.model(IDS).logits
    model = attach(base, LORA, 0)
    layout = layout_of(model)
    assert torch.equal(model(IDS).logits, plain)
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    vocabulary, width = base.model.get_input_embeddings().weight.shape
    assert shapes[f"{TOKENS}.lora_embedding_A"] == (4, vocabulary)
    assert shapes[f"{TOKENS}.lora_embedding_B"] == (width, 4)
    assert layout.factors == layout
    assert {pair.module for pair in layout.pairs} == {"wte", "wpe", "c_attn"}


def test_a_lookup_begins_as_large_as_a_product_elsewhere(untied):
    _, model = adapted(untied, LoraSettings(rank=64, target_modules=["wte", "c_attn"]))
    layout = layout_of(model)
    factors = {n: p.detach().numpy() for n, p in model.named_parameters() if p.requires_grad}
    table = factors[f"{TOKENS}.lora_embedding_A.default"]
    (first, *_) = (a for n, a in factors.items() if "c_attn.lora_A" in n)
    inputs = np.random.default_rng(0).standard_normal((first.shape[1], 200))
    assert table.std() == pytest.approx((first @ inputs).std(), rel=0.1)
    assert np.abs(table).max() <= 1
    assert sum(pair.looked_up for pair in layout.pairs) == 1


def test_peft_and_a_merged_model_answer_as_the_live_one_does(tmp_path, untied):
    _, told, _ = answers_alike(tmp_path, untied, LORA)
    assert told == replace(LORA, target_modules=sorted(LORA.target_modules))


@torch.no_grad()
def test_a_residual_beside_an_embedding_is_an_adapter_of_a_higher_rank(untied):
    _, model = adapted(untied, replace(LORA, alpha=8.0))
    _, grown = adapted(untied, replace(LORA, rank=7, alpha=14.0))
    layout = layout_of(model)
    adapter, residual = drawn(layout), drawn(layout.ranked(3)) / 2
    load_vector(model, adapter)
    plain = model(IDS).logits
    with beside(model, layout, residual):
        found = model(IDS).logits
    load_vector(grown, joined(layout, [adapter, residual]))
    assert torch.allclose(found, grown(IDS).logits, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_an_adapter_that_peft_saved_is_read_without_the_base_that_it_may_hold(tmp_path, untied):
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["wte"], task_type="CAUSAL_LM")
    theirs = get_peft_model(load_base(untied, 0).model, config)
    for parameter in filter(lambda p: p.requires_grad, theirs.parameters()):
        parameter.data.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    lora = adapter_settings(tmp_path / "adapter")
    assert lora == LoraSettings(rank=4, target_modules=["wte"])
    _, model = adapted(untied, lora)
    load_vector(model, adapter_vector(tmp_path / "adapter", layout_of(model)))
    assert torch.equal(model(IDS).logits, theirs.eval()(IDS).logits)
    theirs.save_pretrained(tmp_path / "whole", save_embedding_layers=True)
    with pytest.raises(SettingError, match="again with save_embedding_layers=False"):
        adapter_vector(tmp_path / "whole", layout_of(model))


@pytest.mark.parametrize("part", ["A", "B"])
def test_training_moves_the_tokens_that_were_read(untied, part):
    _, model = adapted(untied, LORA)
    training = training_on(model)
    layout = training.layout
    task = fit_task(layout, adapter=drawn(layout) / 10, optimizer="sgd", lr=0.5)
    told = replace(task, settings={**task.settings, "trained": part})
    delta = layout.split(training.update(told).vectors["delta"])
    assert delta[f"{TOKENS}.lora_embedding_{part}"].any()
    assert not delta[f"{TOKENS}.lora_embedding_{'AB'.replace(part, '')}"].any()
    read = {int(token) for row in training.silos["north"].train for token in row.ids}
    moved = np.flatnonzero(delta[f"{TOKENS}.lora_embedding_A"].any(axis=0))
    assert set(moved.tolist()) <= read
    assert f"{TOKENS} is a Embedding, not a plain linear layer" in obstacle(training)


def test_a_tied_embedding_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"target_modules='wte'.*could not be merged"):
        adapted(gpt2_in(tmp_path), LoraSettings(target_modules=["wte"]))


def test_what_is_trained_whole_gets_no_pair():
    with pytest.raises(SettingError, match=r"modules_to_save=\['wte'\].*take it out of one"):
        LoraSettings(target_modules=["wte", "c_attn"], modules_to_save=["wte"])


@pytest.mark.parametrize("method", ["fedex", "flexlora"])
def test_a_run_learns_and_its_folder_measures_as_the_run_did(tmp_path, untied, method):
    words = ["--model.source", untied.source, "--lora.target_modules", "[wte, c_attn]"]
    assert exit_code_of(tune, words_for(tmp_path, *words, "--aggregation", method)) == 0
    folder = tmp_path / "run"
    summary = json.loads((folder / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]
    again = tmp_path / "again.json"
    words = ["--adapter", str(folder / "adapter"), "--rows", "4", "--json", str(again)]
    assert evaluate.main(words) == 0
    found = json.loads(again.read_text())["silos"]
    for agent, numbers in summary["after"].items():
        assert found[agent]["loss"] == pytest.approx(numbers["loss"], rel=1e-4)
