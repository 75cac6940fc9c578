"""Whole modules and biases on real models: trained, sent, published, merged and refused."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from llmagentos.errors import SettingError
from llmagentos.lm.batches import collate
from llmagentos.lm.lora import attach, layout_of, load_vector, values_of
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import load_base
from llmagentos.lm.obstacle import obstacle
from llmagentos.recipes import evaluate
from llmagentos.settings import LoraSettings, ModelSettings
from tests.crashing import exit_code_of, tune
from tests.gpt2_world import IDS, adapted, answers_alike, drawn, gpt2_in, training_on
from tests.lm_world import CPU, SILOS, fit_task, trainer
from tests.test_recipe import bits, metrics, words_for

# what PEFT asks of transformers, and what it says of a head that leaves its embedding
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

WHOLE = [
    LoraSettings(target_modules=["c_attn"], modules_to_save=["lm_head"]),
    LoraSettings(target_modules=["c_attn"], modules_to_save=["ln_1", "wpe"]),
    LoraSettings(target_modules=["c_attn"], bias="lora_only"),
    LoraSettings(target_modules=["c_attn"], bias="all"),
    LoraSettings(target_modules=["c_attn"], bias="all", modules_to_save=["ln_f", "lm_head"]),
]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return gpt2_in(tmp_path_factory.mktemp("gpt2"))


def rest(layout):
    return [name for name in layout.names if name not in layout.roles]


@pytest.mark.parametrize("lora", WHOLE)
def test_what_is_trained_whole_starts_at_the_bases_values(gpt2, lora):
    base = load_base(gpt2, 0)
    plain, tensors = base.model(IDS).logits, dict(base.model.state_dict())
    model = attach(base, lora, 0)
    layout = layout_of(model)
    assert torch.equal(model(IDS).logits, plain)
    assert rest(layout)
    start = layout.split(values_of(model))
    for name in rest(layout):
        own = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert start[name].tobytes() == tensors[own].numpy().tobytes()


@pytest.mark.parametrize("lora", WHOLE)
def test_peft_and_a_merged_model_answer_as_the_live_one_does(tmp_path, gpt2, lora):
    adapter, told, merged = answers_alike(tmp_path, gpt2, lora)
    assert told == replace(lora, modules_to_save=sorted(lora.modules_to_save))
    read = adapter_vector(tmp_path / "adapter", adapter.layout)
    assert read.tobytes() == adapter.vector.tobytes()
    assert merged.config.tie_word_embeddings == ("lm_head" not in lora.modules_to_save)


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_an_adapter_that_peft_saved_is_read(tmp_path, gpt2, bias):
    torch.manual_seed(1)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["c_attn"],
        bias=bias,
        modules_to_save=["wpe"],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    theirs = get_peft_model(load_base(gpt2, 0).model, config)
    for parameter in filter(lambda p: p.requires_grad, theirs.parameters()):
        parameter.data.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path)
    lora = adapter_settings(tmp_path)
    assert lora == LoraSettings(target_modules=["c_attn"], bias=bias, modules_to_save=["wpe"])
    _, model = adapted(gpt2, lora)
    load_vector(model, adapter_vector(tmp_path, layout_of(model)))
    assert torch.equal(model(IDS).logits, theirs.eval()(IDS).logits)


@pytest.mark.parametrize("lora", WHOLE)
def test_training_moves_the_rest_with_the_second_factors_and_the_base_keeps_its_bits(gpt2, lora):
    _, model = adapted(gpt2, lora)
    layout = layout_of(model)
    start = values_of(model) + drawn(layout) / 10
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    training = training_on(model)
    task = fit_task(layout, adapter=start, optimizer="sgd", lr=0.5, clip=1.0)
    for part in ("both", "B", "A"):
        told = replace(task, settings={**task.settings, "trained": part})
        delta = training.update(told).vectors["delta"]
        assert delta[layout.factors.size :].any() == (part != "A")
        assert delta[layout.part("A")].any() == (part != "B")
    assert frozen
    after = dict(model.named_parameters())
    assert all(torch.equal(values, after[name]) for name, values in frozen.items())


@pytest.mark.parametrize("lora", [WHOLE[0], WHOLE[3]])
def test_the_gradient_of_the_rest_is_that_of_the_plain_loss(gpt2, lora):
    _, model = adapted(gpt2, lora)
    training = training_on(model)
    flat, score = training.bench.flat, training.bench.score
    batch = collate(SILOS["north"].train[:4], CPU)
    score(batch).sum().backward()
    found = flat.gradient.clone()
    flat.gradient.zero_()
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits.flatten(0, 1)
    cross_entropy(logits[batch.places], batch.targets, reduction="sum").backward()
    end = training.layout.factors.size
    assert flat.gradient[end:].abs().max() > 0
    assert torch.allclose(found, flat.gradient, atol=1e-4)


def test_a_head_with_a_bias_that_learns_is_not_taken_for_a_frozen_one():
    base = load_base(ModelSettings(source="tiny", device="cpu"), seed=0)
    base.model.lm_head.bias = torch.nn.Parameter(torch.zeros(base.model.config.vocab_size))
    base.model.requires_grad_(False)
    model = attach(base, LoraSettings(bias="all"), 0)
    training = training_on(model)
    assert rest(training.layout) == ["base_model.model.lm_head.bias"]
    task = fit_task(training.layout, optimizer="sgd", lr=0.1)
    assert training.update(task).vectors["delta"][training.layout.factors.size :].all()


def test_copies_are_float32_on_a_base_of_another_type(gpt2):
    lora = LoraSettings(target_modules=["c_attn"], modules_to_save=["lm_head", "ln_1", "wpe"])
    base = load_base(replace(gpt2, dtype="bfloat16"), 0)
    plain = base.model(IDS).logits
    model = attach(base, lora, 0)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert model(IDS).logits.dtype == torch.bfloat16
    assert torch.allclose(model(IDS).logits, plain, atol=0.01)
    training = training_on(model)
    start = values_of(model)
    delta = training.update(fit_task(training.layout, adapter=start, lr=1e-4)).vectors["delta"]
    moved = delta[training.layout.factors.size :]
    assert 0 < np.abs(moved).max() < 1e-3


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"modules_to_save": ["lm_hed"]}, r"lora\.modules_to_save='lm_hed'.*did you mean lm_head"),
        ({"modules_to_save": ["self_attn"]}, r"='self_attn': no layer .* with weights"),
        (
            {"modules_to_save": ["norm"]},
            r"='norm': PEFT would copy .*\.input_layernorm, .* name it in full, as in model\.norm",
        ),
        ({"modules_to_save": ["embed_tokens"]}, r"shares its weight with the head.*name lm_head"),
        ({"bias": "all"}, r"lora\.bias='all': the base has no such biases; leave it out"),
    ],
)
def test_what_cannot_be_trained_whole_is_refused_by_name(lora, message):
    base = load_base(ModelSettings(source="tiny", device="cpu"), seed=0)
    with pytest.raises(SettingError, match=message):
        attach(base, LoraSettings(**lora), 0)


def test_a_module_that_is_named_in_full_is_copied_alone():
    training = trainer(modules_to_save=["model.norm"])
    assert rest(training.layout) == ["base_model.model.model.norm.weight"]


def test_biases_of_layers_without_any_and_of_another_type_are_refused(gpt2):
    base = load_base(replace(gpt2, dtype="bfloat16"), 0)
    lora = LoraSettings(target_modules=["c_attn"], bias="all")
    with pytest.raises(SettingError, match=r"the base is in bfloat16.*set model\.dtype to float32"):
        attach(base, lora, 0)


def test_on_a_quantized_base_the_head_alone_is_copied(gpt2):
    pytest.importorskip("bitsandbytes")
    packed = replace(gpt2, quantize="nf4")
    head = LoraSettings(target_modules=["c_attn"], modules_to_save=["lm_head"])
    _, model = adapted(packed, head)
    training, start = training_on(model), values_of(model)
    delta = training.update(fit_task(training.layout, adapter=start)).vectors["delta"]
    assert delta[training.layout.factors.size :].any()
    for lora, message in (
        ({"modules_to_save": ["c_proj"]}, r"='c_proj': its weights are quantized"),
        ({"bias": "all"}, r"lora\.bias='all': quantized layers keep their biases"),
    ):
        with pytest.raises(SettingError, match=message):
            adapted(packed, LoraSettings(target_modules=["c_attn"], **lora))


def test_agents_with_modules_of_their_own_train_one_by_one():
    training = trainer(modules_to_save=["lm_head"])
    said = obstacle(training)
    assert said == (
        "every agent has a base_model.model.lm_head.weight of its own, "
        "which no batched product joins"
    )


HEAD = ["--lora.modules_to_save", "[lm_head]"]


def played(out, *more):
    assert exit_code_of(tune, words_for(out, *HEAD, *more)) == 0
    return out / "run"


@pytest.mark.parametrize("method", ["naive", "flora", "fedsvd"])
def test_a_run_learns_and_its_folder_measures_as_the_run_did(tmp_path, method):
    folder = played(tmp_path, "--aggregation", method)
    summary = json.loads((folder / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["lm_head"]
    again = tmp_path / "again.json"
    words = ["--adapter", str(folder / "adapter"), "--rows", "4", "--json", str(again)]
    assert evaluate.main(words) == 0
    found = json.loads(again.read_text())["silos"]
    for agent, numbers in summary["after"].items():
        assert found[agent]["loss"] == pytest.approx(numbers["loss"], rel=1e-5)


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn", "fedbuff"])
def test_corrections_and_buffers_take_a_module_as_they_take_factors(tmp_path, strategy):
    words = ["--server.strategy", strategy, "--local.optimizer", "sgd", "--local.lr", "0.5"]
    folder = played(tmp_path, *words, "--server.weighting", "uniform")
    summary = json.loads((folder / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]


def test_the_base_that_is_measured_and_answers_first_is_the_base_itself(tmp_path):
    folders = [played(tmp_path / "head"), tmp_path / "plain" / "run"]
    assert exit_code_of(tune, words_for(tmp_path / "plain")) == 0
    head, plain = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    assert head["sample"]["before"] == plain["sample"]["before"]
    for agent, numbers in plain["before"].items():
        assert head["before"][agent]["loss"] == pytest.approx(numbers["loss"], rel=1e-6)


@pytest.mark.parametrize(("method", "point"), [("fedsa", 130), ("fedex", 150)])
def test_a_killed_run_and_resumed_ends_with_the_same_bits(tmp_path, method, point):
    whole = played(tmp_path / "whole", "--aggregation", method)
    parted = tmp_path / "parted"
    words = words_for(parted, *HEAD, "--aggregation", method)
    assert exit_code_of(tune, words, point) == -signal.SIGKILL
    assert exit_code_of(tune, words_for(parted, "--resume")) == 0
    assert bits(parted / "run") == bits(whole)
    assert metrics(parted / "run") == metrics(whole)


def test_a_run_goes_on_from_a_folder_with_a_module_of_its_own(tmp_path):
    first = played(tmp_path / "first")
    words = words_for(tmp_path / "second", "--init_adapter", str(first / "adapter"))
    assert exit_code_of(tune, words) == 0
    before = json.loads((tmp_path / "second" / "run" / "summary.json").read_text())["before"]
    after = json.loads((first / "summary.json").read_text())["after"]
    for agent, numbers in after.items():
        assert before[agent]["loss"] == pytest.approx(numbers["loss"], rel=1e-6)


def test_ditto_keeps_a_module_of_each_agents_own(tmp_path):
    folder = played(tmp_path, "--personal.method", "ditto")
    summary = json.loads((folder / "summary.json").read_text())
    assert all(np.isfinite(m["personal_loss"]) for m in summary["after"].values())


def test_a_cohort_that_was_asked_for_is_refused_aloud(tmp_path):
    said = tmp_path / "said"
    words = words_for(tmp_path, *HEAD, "--trainer", "cohort")
    assert exit_code_of(tune, words, told=said) == 0
    assert "lm_head.weight of its own" in said.read_text()
