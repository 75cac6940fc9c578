import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, MambaConfig, MixtralConfig

from llmagentos.adapter import initial_vector
from llmagentos.errors import SettingError
from llmagentos.layout import Layout
from llmagentos.lm.lora import (
    adapter_config,
    attach,
    layout_of,
    load_vector,
    parameters_by_name,
)
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import Base, base_hash, load_base
from llmagentos.settings import LoraSettings, ModelSettings

# what PEFT asks of transformers when it loads an adapter
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TINY = ModelSettings(source="tiny", device="cpu")
PLAIN = LoraSettings()
EVERYWHERE = LoraSettings(target_modules=["all-linear"])
IDS = torch.arange(3, 40)[None]


def adapted(settings=PLAIN, seed=0):
    base = load_base(TINY, 0)
    return base, attach(base, settings, seed)


@pytest.mark.parametrize("settings", [LoraSettings(), EVERYWHERE, LoraSettings(rank=3, alpha=4.5)])
def test_the_layout_has_the_names_and_shapes_that_peft_publishes(settings):
    _, model = adapted(settings)
    layout, published = layout_of(model), get_peft_model_state_dict(model)
    assert set(layout.names) == set(published)
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        assert tuple(published[name].shape) == shape


def test_the_layout_has_all_first_factors_before_all_second_ones():
    layout = layout_of(adapted()[1])
    kinds = ["A" if "lora_A" in name else "B" for name in layout.names]
    assert kinds == ["A"] * 4 + ["B"] * 4
    assert layout.size == 2 * (8 * (64 + 64) + 8 * (64 + 32))
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in layout.names
    assert Layout.from_json(layout.to_json()) == layout


def test_all_linear_takes_every_layer_but_the_head():
    layout = layout_of(adapted(EVERYWHERE)[1])
    assert len(layout.pairs) == 2 * 7
    assert not any("lm_head" in name for name in layout.names)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 16 / 8), (True, 16 / sqrt(8))])
def test_pairs_carry_the_scale_of_their_product(rslora, scale):
    layout = layout_of(adapted(LoraSettings(rslora=rslora))[1])
    assert {pair.scale for pair in layout.pairs} == {scale}
    assert {(pair.rank, pair.alpha) for pair in layout.pairs} == {(8, 16.0)}


def test_the_first_factors_follow_from_the_seed_alone():
    torch.manual_seed(1)
    _, one = adapted(seed=3)
    torch.manual_seed(2)
    _, same = adapted(seed=3)
    _, other = adapted(seed=4)
    values = [torch.cat([p.flatten() for p in parameters_by_name(m).values()])
              for m in (one, same, other)]  # fmt: skip
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert np.array_equal(values[0].detach().numpy(), initial_vector(layout_of(one), 3))


def test_the_first_factors_are_spread_as_peft_draws_them():
    base = load_base(TINY, 0)
    ours = layout_of(attach(base, LoraSettings(rank=64), 0))
    tensors = ours.split(initial_vector(ours, 0))
    torch.manual_seed(0)
    config = LoraConfig(r=64, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model_state_dict(get_peft_model(load_base(TINY, 0).model, config))
    for pair in ours.pairs:
        assert np.abs(tensors[pair.a]).max() <= 1 / sqrt(64)
        assert tensors[pair.a].std() == pytest.approx(theirs[pair.a].numpy().std(), rel=0.05)
        assert not tensors[pair.b].any()


def test_attaching_leaves_the_output_the_base_and_the_generator_alone():
    base = load_base(TINY, 0)
    plain = base.model(IDS).logits
    state = torch.get_rng_state()
    model = attach(base, EVERYWHERE, 0)
    assert torch.equal(model(IDS).logits, plain)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.requires_grad == (".lora_" in name) for name, p in model.named_parameters())
    assert base_hash(model.unload()) == base.hash


def test_factors_are_float32_on_a_bfloat16_base():
    base = load_base(replace(TINY, dtype="bfloat16"), 0)
    model = attach(base, LoraSettings(), 0)
    assert {p.dtype for p in parameters_by_name(model).values()} == {torch.float32}
    assert model(IDS).logits.dtype == torch.bfloat16


def test_parameters_are_the_live_ones_in_the_order_of_the_layout():
    _, model = adapted()
    layout, parameters = layout_of(model), parameters_by_name(model)
    assert tuple(parameters) == layout.names
    vector = np.arange(layout.size, dtype=np.float32)
    load_vector(model, vector)
    flat = torch.cat([parameter.flatten() for parameter in parameters.values()])
    assert np.array_equal(flat.detach().numpy(), vector)


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("q_prj", "did you mean q_proj"),
        ("embed_tokens", "leave it out"),
        ("input_layernorm", "no linear layer or plain embedding"),
        ("proj", "did you mean"),
        ("lm_head", "leave it out"),
    ],
)
def test_a_target_that_cannot_be_adapted_is_named_with_the_nearest(target, remedy):
    settings = LoraSettings(target_modules=["v_proj", target])
    with pytest.raises(SettingError, match=rf"lora\.target_modules='{target}'.*{remedy}"):
        adapted(settings)


def test_the_config_names_the_base_and_loads_as_peft_wrote_it(tmp_path):
    base, model = adapted(replace(EVERYWHERE, alpha=4.5))
    config = adapter_config(model, base)
    assert config["base_model_name_or_path"] is None
    assert config["inference_mode"] is True
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    read = LoraConfig.from_pretrained(tmp_path)
    assert (read.r, read.lora_alpha, read.task_type) == (8, 4.5, "CAUSAL_LM")
    assert read.target_modules == model.peft_config["default"].target_modules


@pytest.fixture
def saved(tmp_path):
    """A PEFT folder with factors that are not the initial ones."""
    _, model = adapted(LoraSettings(rank=4, alpha=6, rslora=True, target_modules=["k_proj"]), 1)
    load_vector(model, np.arange(layout_of(model).size, dtype=np.float32))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_an_adapter_folder_gives_settings_and_vector_back(saved):
    settings = adapter_settings(saved)
    assert settings == LoraSettings(rank=4, alpha=6, rslora=True, target_modules=["k_proj"])
    layout = layout_of(adapted(settings)[1])
    assert np.array_equal(adapter_vector(saved, layout), np.arange(layout.size))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peft_type", "LOHA"),
        ("use_dora", True),
        ("rank_pattern", {"k_proj": 2}),
        ("trainable_token_indices", [3]),
        ("bias", "boft_only"),
        ("use_qalora", True),
        ("layer_replication", [[0, 1], [0, 2]]),
        ("a_field_of_a_later_peft", 3),
        ("init_lora_weights", "pissa"),
        ("target_modules", ".*k_proj"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused_by_field(saved, field, value):
    change(saved, **{field: value})
    with pytest.raises(SettingError, match=f"has {field}="):
        adapter_settings(saved)


def test_a_folder_that_holds_no_adapter_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"adapter_config\.json cannot be read"):
        adapter_settings(tmp_path)
    with pytest.raises(SettingError, match=r"adapter_model\.safetensors cannot be read"):
        adapter_vector(tmp_path, Layout((), ()))


def test_an_adapter_of_another_base_is_refused(saved):
    layout = layout_of(adapted(LoraSettings(rank=4, target_modules=["k_proj", "v_proj"]))[1])
    with pytest.raises(SettingError, match=r"lacks .*v_proj\.lora_A\.weight"):
        adapter_vector(saved, layout)
    layout = layout_of(adapted(LoraSettings(rank=2, target_modules=["k_proj"]))[1])
    with pytest.raises(SettingError, match=r"has shape \(4, 64\), the base needs \(2, 64\)"):
        adapter_vector(saved, layout)


def test_an_adapter_with_a_nan_is_refused(saved):
    settings = adapter_settings(saved)
    _, model = adapted(settings)
    layout = layout_of(model)
    load_vector(model, np.full(layout.size, np.nan, np.float32))
    model.save_pretrained(saved)
    with pytest.raises(SettingError, match="not finite"):
        adapter_vector(saved, layout)


SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1}
EXPERTS = MixtralConfig(
    **SIZES, num_attention_heads=2, num_key_value_heads=2, intermediate_size=64, num_local_experts=2
)


def base_of(config):
    """A base of this kind with drawn weights."""
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    return Base(model, None, "drawn", None, None, "0" * 64)


def test_experts_in_one_tensor_are_refused_and_layers_outside_them_are_not():
    with pytest.raises(
        SettingError, match=r"\['all-linear'\].* one tensor .*such as those of the attention"
    ):
        attach(base_of(EXPERTS), EVERYWHERE, 0)
    named = LoraSettings(target_modules=["k_proj", "o_proj", "q_proj", "v_proj"])
    assert len(layout_of(attach(base_of(EXPERTS), named, 0)).pairs) == 4


@pytest.mark.parametrize("target", ["all-linear", "out_proj"])
def test_a_layer_that_peft_does_not_adapt_is_refused_by_name(target):
    lora = LoraSettings(target_modules=[target])
    with pytest.raises(SettingError, match=rf"lora\.target_modules=\['{target}'\].*'out_proj'"):
        attach(base_of(MambaConfig(**SIZES)), lora, 0)
