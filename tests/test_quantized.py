"""A base of four or eight bits: it trains as the dense base of the same values does, and stays."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn

from llmagentos.agent import AgentSettings, Limits
from llmagentos.corpus import Example
from llmagentos.errors import ModelError, SettingError
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.export import merge
from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.memory import agent_bytes, pass_bytes
from llmagentos.lm.models import base_hash, load_base
from llmagentos.lm.obstacle import obstacle
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.quantized import check_quantize
from llmagentos.lm.residual import beside
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.recipes import evaluate, export
from llmagentos.recipes.own_desk import open_bench
from llmagentos.recipes.terms import terms_of
from llmagentos.settings import LoraSettings, ModelSettings, RunSettings
from tests.crashing import exit_code_of, tune
from tests.lm_world import CPU, SILOS, evaluate_task, fit_task, start_of
from tests.test_aggregation_lm import residual_of, told
from tests.test_recipe import bits, metrics, words_for

bnb = pytest.importorskip("bitsandbytes")

METHODS = pytest.mark.parametrize("method", ["nf4", "int8"])
TINY = ModelSettings(source="tiny", device="cpu")
PLAIN = {"optimizer": "sgd", "lr": 0.5, "clip": 0.0}


def quantized(method, dense=False, **lora):
    """A trainer on the tiny base in few bits, or on whole weights of the same values."""
    base = load_base(replace(TINY, quantize=method), 0)
    if dense:
        base = replace(base, model=of_same_values(base.model))
    model = attach(base, LoraSettings(**{"rank": 4, "target_modules": ["all-linear"], **lora}), 0)
    accelerator = accelerator_for("no", CPU)
    return LoraTrainer(model, layout_of(model), SILOS, accelerator=accelerator)


def of_same_values(packed):
    """The tiny model with the values that the packed weights stand for."""
    model = load_base(TINY, 0).model
    for name, layer in packed.named_modules():
        if isinstance(layer, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            model.get_submodule(name).weight.data = values_of(layer).float()
    return model


def values_of(layer):
    if isinstance(layer, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return bnb.functional.int8_vectorwise_dequant(layer.weight.data, layer.weight.SCB)


def delta(training, task):
    return training.update(task).vectors["delta"]


def apart(ours, theirs):
    """How far apart two vectors are, in lengths of the second."""
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def packed_bits(training):
    """Hash of all that the frozen base holds."""
    base = training.bench.model.get_base_model()
    frozen = {name: t for name, t in base.state_dict().items() if "lora_" not in name}
    assert any(t.dtype in (torch.uint8, torch.int8) for t in frozen.values())
    return [(name, t.numpy().tobytes()) for name, t in sorted(frozen.items())]


@METHODS
def test_linear_layers_are_packed_and_embeddings_norms_and_head_are_not(method):
    model = load_base(replace(TINY, quantize=method), 0).model
    whole = load_base(TINY, 0).model
    kind = {"nf4": bnb.nn.Linear4bit, "int8": bnb.nn.Linear8bitLt}[method]
    inside = [name for name, part in whole.named_modules() if type(part) is nn.Linear]
    assert len(inside) == 15
    for name in set(inside) - {"lm_head"}:
        assert type(model.get_submodule(name)) is kind
    assert model.lm_head.weight is model.get_input_embeddings().weight
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad
        if name.rpartition(".")[0] not in inside:
            assert torch.equal(parameter, whole.get_parameter(name))
    size = model.model.layers[0].mlp.up_proj.weight.nbytes
    assert size == {"nf4": 64 * 128 // 2, "int8": 64 * 128}[method]
    assert model.num_parameters() == whole.num_parameters()


@METHODS
def test_the_base_is_the_same_base_and_its_bits_are_told_apart(method):
    whole, packed = (load_base(replace(TINY, quantize=each), 0) for each in ("none", method))
    assert packed.hash == whole.hash
    assert whole.quantized_hash is None
    assert packed.quantized_hash == base_hash(packed.model) != whole.hash
    other = {"nf4": "int8", "int8": "nf4"}[method]
    assert load_base(replace(TINY, quantize=other), 0).quantized_hash != packed.quantized_hash
    assert load_base(replace(TINY, quantize=method), 0).quantized_hash == packed.quantized_hash


@METHODS
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"]])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_a_dense_base_of_the_same_values(method, targets, checkpointing):
    """After an evaluation too, which on some processors would pack the weights anew."""
    ours = quantized(method, target_modules=targets)
    theirs = quantized(method, dense=True, target_modules=targets)
    how = {"steps": 1, "gradient_checkpointing": checkpointing, **PLAIN}
    expected = delta(theirs, fit_task(theirs.layout, **how))
    for _ in range(2):
        assert apart(delta(ours, fit_task(ours.layout, **how)), expected) < 1e-5
        ours.evaluate(evaluate_task(ours.layout))


@pytest.mark.parametrize(("method", "near"), [("nf4", 1e-6), ("int8", 1e-3)])
def test_the_held_out_loss_is_that_of_the_same_values(method, near):
    """Eight bits round what goes into a layer too."""
    ours, theirs = quantized(method), quantized(method, dense=True)
    found, expected = (each.evaluate(evaluate_task(each.layout)) for each in (ours, theirs))
    assert found.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=near)


@METHODS
def test_agents_side_by_side_end_where_they_end_one_by_one(method):
    training = quantized(method, dropout=0.2)
    assert obstacle(training) is None
    tasks = [fit_task(training.layout, agent=agent, steps=4) for agent in SILOS]
    alone = [delta(training, task) for task in tasks]
    (together,) = CohortTrainer(training, 8).fit(tasks)
    for update, expected in zip(together, alone, strict=True):
        assert apart(update.vectors["delta"], expected) < 1e-3


@METHODS
@torch.no_grad()
def test_a_residual_is_beside_the_packed_base_as_beside_a_dense_one(method):
    ids, logits = torch.arange(3, 40)[None], []
    for dense in (False, True):
        training = quantized(method, dense=dense)
        training.bench.flat.load(torch.from_numpy(start_of(training.layout)))
        model = training.bench.model
        with beside(model, training.layout, residual_of(training.layout, 3)):
            logits.append(model(ids).logits)
    plain = model(ids).logits
    assert torch.allclose(*logits, atol=2e-2 if method == "int8" else 1e-5)
    assert not torch.allclose(logits[0], plain, atol=0.1)


@METHODS
def test_no_training_changes_a_bit_of_the_base(method):
    training = quantized(method)
    before = packed_bits(training)
    layout, residual = training.layout, residual_of(training.layout, 3)
    task = fit_task(layout)
    with_residual = replace(task, vectors={**task.vectors, "residual": residual})
    delta(training, with_residual)
    delta(training, told(fit_task(layout, gradient_checkpointing=True), trained="B"))
    list(CohortTrainer(training, 8).fit([fit_task(layout, agent=agent) for agent in SILOS]))
    training.evaluate(evaluate_task(layout))
    assert packed_bits(training) == before


@METHODS
@pytest.mark.parametrize("aggregation", ["naive", "fedex"])
def test_a_killed_run_and_resumed_ends_with_the_same_bits_and_learns(tmp_path, method, aggregation):
    asked = ["--model.quantize", method, "--aggregation", aggregation]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert exit_code_of(tune, words_for(whole, *asked)) == 0
    assert exit_code_of(tune, words_for(parted, *asked), 130) < 0
    assert exit_code_of(tune, words_for(parted, "--resume")) == 0
    assert bits(parted / "run") == bits(whole / "run")
    assert metrics(parted / "run") == metrics(whole / "run")
    summary = json.loads((whole / "run" / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a run on a base of four bits."""
    out = tmp_path_factory.mktemp("tuned")
    assert exit_code_of(tune, words_for(out, "--model.quantize", "nf4")) == 0
    return out / "run"


def test_the_adapter_loads_on_the_whole_base_and_on_the_packed_one(tuned, tmp_path):
    losses = {}
    for method in ("nf4", "none"):
        file = tmp_path / f"{method}.json"
        words = ["--adapter", str(tuned / "adapter"), "--model.quantize", method, "--rows", "4"]
        assert evaluate.main([*words, "--json", str(file)]) == 0
        silos = json.loads(file.read_text())["silos"]
        losses[method] = {agent: numbers["loss"] for agent, numbers in silos.items()}
    after = json.loads((tuned / "summary.json").read_text())["after"]
    for agent, numbers in after.items():
        assert losses["nf4"][agent] == pytest.approx(numbers["loss"], rel=1e-5)
        assert losses["none"][agent] == pytest.approx(numbers["loss"], rel=0.05)
    model = PeftModel.from_pretrained(load_base(TINY, 0).model, tuned / "adapter")
    assert type(model.get_submodule("base_model.model.lm_head")) is nn.Linear


def test_an_adapter_is_merged_into_whole_weights(tuned, tmp_path):
    words = ["--adapter", str(tuned / "adapter"), "--model.dtype", "float32"]
    assert export.main([*words, "--out", str(tmp_path / "merged")]) == 0
    merge(TINY, tuned / "adapter", tmp_path / "expected")
    name = "model.safetensors"
    assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert "quantization" not in (tmp_path / "merged" / "config.json").read_text()


def test_the_card_says_what_the_base_was_quantized_to(tuned):
    assert "quantize: nf4" in (tuned / "adapter" / "README.md").read_text()


@METHODS
def test_a_folder_is_quantized_as_it_is_loaded(method, tmp_path):
    base = load_base(TINY, 0)
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    there = load_base(replace(TINY, source=str(tmp_path), quantize=method), 0)
    here = load_base(replace(TINY, quantize=method), 0)
    assert (there.hash, there.quantized_hash) == (here.hash, here.quantized_hash)


@pytest.mark.parametrize("wanted", ["none", "nf4", "int8"])
def test_a_folder_of_packed_weights_is_refused(wanted, tmp_path):
    packed = load_base(replace(TINY, quantize="int8"), 0)
    packed.model.save_pretrained(tmp_path)
    packed.tokenizer.save_pretrained(tmp_path)
    with pytest.raises((SettingError, ModelError), match=r"model\.source.*quantized weights"):
        load_base(replace(TINY, source=str(tmp_path), quantize=wanted), 0)


@METHODS
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_not_packed_and_the_arithmetic_have_the_type_that_is_set(method, dtype):
    model = load_base(replace(TINY, quantize=method, dtype=dtype), 0).model
    dense, ids = of_same_values(model), torch.arange(3, 40)[None]
    logits, expected = model(ids).logits, dense(ids).logits
    assert str(logits.dtype) == f"torch.{dtype}"
    assert torch.allclose(logits.float(), expected, atol=0.05)


def test_a_device_that_bitsandbytes_cannot_compute_on_is_named():
    with pytest.raises(SettingError, match=r"model\.quantize='nf4'.*cannot compute on mps.*none"):
        check_quantize(replace(TINY, quantize="nf4"), torch.device("mps"))


def test_layers_of_eight_bits_count_the_inputs_that_they_hold():
    ours, theirs = (quantized(each, target_modules=["q_proj"]) for each in ("int8", "none"))
    found, dense = (pass_bytes(each.bench, rows=2, tokens=64) for each in (ours, theirs))
    config = ours.bench.model.config
    inputs = config.num_hidden_layers * (config.hidden_size + config.intermediate_size)
    assert found >= dense + 4 * 2 * 64 * inputs
    plain = RunSettings()
    again = replace(plain, local=replace(plain.local, gradient_checkpointing=True))
    assert agent_bytes(ours.bench, again) == agent_bytes(ours.bench, plain)


HIDDEN = """
import sys
sys.modules["bitsandbytes"] = None
"""


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    words = ["-m", "llmagentos.recipes.fedavg_lora", "--config", "smoke"]
    done = subprocess.run(
        [sys.executable, *words, "--out", str(tmp_path), "--model.quantize", "nf4"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "model.quantize='nf4': bitsandbytes is not installed" in done.stderr
    assert "llmagentos[quantized]" in done.stderr


def test_nothing_is_said_where_a_base_is_packed_and_evaluated(tuned):
    words = ["-m", "llmagentos.recipes.generate", "--adapter", str(tuned / "adapter")]
    done = subprocess.run(
        [
            sys.executable,
            *words,
            "--model.quantize",
            "int8",
            "--prompt",
            "one",
            "--max_tokens",
            "2",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_an_organisation_may_hold_the_agreed_base_in_four_bits():
    agreed = terms_of(RunSettings(model=TINY), "0" * 64)
    examples = [Example(f"question {n}", f"answer {n}") for n in range(20)]
    limits = Limits(rounds=1, steps=1, epochs=1.0, examples=1, held_out=1)
    own = AgentSettings("city", "", device="cpu", quantize="nf4", threads=1, limits=limits)
    bench = open_bench(own, agreed, examples)
    layers = bench.trainer.bench.model.modules()
    assert sum(isinstance(layer, bnb.nn.Linear4bit) for layer in layers) == 14
    assert "quantization" not in str(bench.published)
    with pytest.raises(ModelError, match="the terms want"):
        open_bench(own, replace(agreed, base="0" * 64), examples)
