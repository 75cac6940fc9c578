"""Greedy answers: of models whose positions end, and of models that keep no past."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    RwkvConfig,
)

from llmagentos.lm.answer import answer
from llmagentos.lm.model_tiny import tiny_tokenizer
from tests.crashing import exit_code_of, tune
from tests.gpt2_world import gpt2_in
from tests.test_recipe import words_for

TOKENIZER = tiny_tokenizer()
SIZES = {"vocab_size": len(TOKENIZER), "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "max_position_embeddings": 32}
GPT = {"vocab_size": len(TOKENIZER), "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}

CONFIGS = {
    "llama": LlamaConfig(**SIZES, **HEADS, intermediate_size=64),
    "gpt2": GPT2Config(**GPT),
    "gptj": GPTJConfig(**GPT, rotary_dim=8),
    "opt": OPTConfig(**SIZES, **HEADS, ffn_dim=64, word_embed_proj_dim=32),
    "mamba": MambaConfig(**SIZES, state_size=8),
    "rwkv": RwkvConfig(**SIZES, attention_hidden_size=32, context_length=32),
}
END_AT_32 = {"gpt2", "gptj", "opt"}


def model_of(kind):
    """A model of this kind with drawn weights, for rows of 32 tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()


@torch.no_grad()
def read_anew(model, ids, count, reach):
    """The answer when the last ``reach`` tokens are read from the beginning for each token."""
    ids = list(ids)
    for _ in range(count):
        row = torch.tensor(ids[-reach:])[None]
        ids.append(int(model(input_ids=row, use_cache=False).logits[0, -1].argmax()))
    return TOKENIZER.decode(ids[-count:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("prompt", [5, 29, 50], ids="{} tokens".format)
def test_an_answer_is_read_from_all_that_the_model_has_positions_for(kind, prompt):
    model = model_of(kind)
    ids = torch.randint(3, 259, (prompt,), generator=torch.Generator().manual_seed(2)).numpy()
    reach = 32 if kind in END_AT_32 else 1000
    assert answer(model, TOKENIZER, ids, 8) == read_anew(model, ids, 8, reach)


def test_a_run_whose_prompt_is_longer_than_the_model_reads_ends_with_a_summary(tmp_path):
    """The base has 128 positions."""
    words = ["--model.source", gpt2_in(tmp_path / "gpt2").source, "--sample_prompt", "one " * 60]
    lora = ["--lora.target_modules", "[c_attn]", "--rounds", "1"]
    assert exit_code_of(tune, words_for(tmp_path, *words, *lora)) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["sample"]) == {"prompt", "before", "after"}
