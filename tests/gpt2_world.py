"""A small base with biases, embeddings of tokens and places, and weights that lie transposed."""

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llmagentos.lm.lora import attach, layout_of
from llmagentos.lm.model_tiny import tiny_tokenizer
from llmagentos.lm.models import load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
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
