"""A base of four or eight bits: it trains as the dense base of the same values does, and stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import FalconConfig, FalconForCausalLM, GPT2Config, GPT2LMHeadModel

from llmagentos.adapter import Adapter
from llmagentos.errors import ModelError, SettingError
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import adapter_config, attach, layout_of, load_vector
from llmagentos.lm.memory import demand_of, pass_bytes
from llmagentos.lm.models import base_hash, load_base
from llmagentos.lm.obstacle import obstacle
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.quantized import check_quantize, quantize
from llmagentos.lm.residual import beside
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.publish import write_peft_folder
from llmagentos.settings import LoraSettings, ModelSettings, RunSettings
from tests.gpt2_world import adapted, gpt2_in, training_on
from tests.lm_world import CPU, SILOS, evaluate_task, fit_task, start_of
from tests.test_aggregation_lm import residual_of, told

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
    """All that the frozen base holds, by name."""
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
def test_loading_leaves_the_generator_of_torch_alone(method):
    state = torch.get_rng_state()
    load_base(replace(TINY, quantize=method), 0)
    assert torch.equal(state, torch.get_rng_state())


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
def test_agents_side_by_side_on_layers_with_biases_end_where_they_end_one_by_one(method, tmp_path):
    lora = LoraSettings(target_modules=["all-linear"])
    _, model = adapted(replace(gpt2_in(tmp_path), quantize=method), lora)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # the base's own, which no agent's seed draws
    training = training_on(model)
    tasks = [fit_task(training.layout, agent=agent, **PLAIN) for agent in SILOS]
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
def test_a_folder_is_quantized_as_it_is_loaded(method, tmp_path):
    base = load_base(TINY, 0)
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    there = load_base(replace(TINY, source=str(tmp_path), quantize=method), 0)
    here = load_base(replace(TINY, quantize=method), 0)
    assert (there.hash, there.quantized_hash) == (here.hash, here.quantized_hash)


@METHODS
@torch.no_grad()
def test_layers_that_store_their_weight_transposed_are_packed_the_right_way_round(method, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_base(TINY, 0).tokenizer
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"n_layer": 1, "n_embd": 64, "n_head": 2, "vocab_size": len(tokenizer)}
    GPT2LMHeadModel(GPT2Config(**sizes, **ends)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    there, ids = replace(TINY, source=str(tmp_path)), torch.arange(3, 40)[None]
    lora, logits = LoraSettings(target_modules=["c_attn"]), []
    for each in ("none", method):
        base = load_base(replace(there, quantize=each), 0)
        model = attach(base, lora, 0)
        layout = layout_of(model)
        load_vector(model, start_of(layout))
        logits.append(model(ids).logits)
    assert torch.allclose(*logits, atol={"nf4": 0.1, "int8": 0.01}[method])
    adapter = Adapter(layout, start_of(layout))
    write_peft_folder(tmp_path / "adapter", adapter, adapter_config(model, base), "card")
    loaded = PeftModel.from_pretrained(load_base(there, 0).model, tmp_path / "adapter")
    assert torch.equal(loaded(ids).logits, logits[0])


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


@METHODS
def test_a_model_of_which_nothing_is_packed_is_named(method):
    """Its linear layers are of a kind of their own, and bitsandbytes knows its own by type."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    falcon = FalconForCausalLM(FalconConfig(vocab_size=64, **sizes))
    with pytest.raises(
        SettingError, match=rf"quantize='{method}': FalconForCausalLM has no layers"
    ):
        quantize(falcon, method, CPU)


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
    assert demand_of(ours.bench, again) == demand_of(ours.bench, plain)
