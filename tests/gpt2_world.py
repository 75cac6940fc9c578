"""A small base with biases, embeddings of tokens and places, and weights that lie transposed."""

import numpy as np
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from llmagentos.adapter import Adapter
from llmagentos.lm.export import merge
from llmagentos.lm.lora import adapter_config, attach, layout_of, load_vector
from llmagentos.lm.model_adapter import adapter_settings
from llmagentos.lm.model_tiny import tiny_tokenizer
from llmagentos.lm.models import load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.publish import write_peft_folder
from llmagentos.settings import ModelSettings
from tests.lm_world import CPU, SILOS

IDS = torch.arange(3, 40)[None]


def gpt2_in(folder, *, tied=True):
    """The settings of a base in a folder; ``tied`` is whether its head is its embedding."""
    tokenizer = tiny_tokenizer()
    config = GPT2Config(
        n_layer=2,
        n_embd=32,
        n_head=2,
        vocab_size=len(tokenizer),
        n_positions=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelSettings(source=str(folder), device="cpu")


def adapted(settings, lora):
    """A base and the model with an untouched adapter on it."""
    base = load_base(settings, 0)
    return base, attach(base, lora, 0)


def training_on(model):
    """The trainer of two agents on a model."""
    return LoraTrainer(model, layout_of(model), SILOS, accelerator=accelerator_for("no", CPU))


def drawn(layout):
    """An adapter whose values are all drawn."""
    return np.random.default_rng(5).normal(0, 0.2, layout.size).astype(np.float32)


@torch.no_grad()
def answers_alike(folder, settings, lora):
    """An adapter on a base, what its published folder says, and the merged model.

    PEFT's reading of the folder and the merged model answer as the live one does.
    """
    base, model = adapted(settings, lora)
    adapter = Adapter(layout_of(model), drawn(layout_of(model)))
    load_vector(model, adapter.vector)
    write_peft_folder(folder / "adapter", adapter, adapter_config(model, base), "card")
    logits = model(IDS).logits
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder / "adapter")
    assert torch.equal(loaded(IDS).logits, logits)
    merge(settings, folder / "adapter", folder / "merged")
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged")
    assert torch.allclose(merged(IDS).logits, logits, atol=1e-4)
    assert not torch.allclose(load_base(settings, 0).model(IDS).logits, logits, atol=0.1)
    return adapter, adapter_settings(folder / "adapter"), merged
