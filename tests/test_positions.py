"""Rows that are longer than a model has positions for are refused before any work."""

from dataclasses import replace

import pytest
import torch

from llmagentos.agent import AgentSettings
from llmagentos.corpus import Example
from llmagentos.errors import SettingError
from llmagentos.lm.lora import attach
from llmagentos.lm.models import load_base
from llmagentos.lm.positions import longest_row
from llmagentos.recipes.desk import open_bench
from llmagentos.recipes.terms import terms_of
from llmagentos.settings import CorpusSettings, LoraSettings, RowSettings, RunSettings
from tests.crashing import exit_code_of, tune
from tests.gpt2_world import gpt2_in
from tests.test_answers import CONFIGS, END_AT_32, model_of
from tests.test_recipe import words_for


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A base with 128 positions."""
    return gpt2_in(tmp_path_factory.mktemp("gpt2"), tied=False)


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_the_longest_row_is_the_longest_that_the_model_reads(kind):
    model = model_of(kind)
    fits, beyond = (torch.full((1, length), 5) for length in (32, 33))
    model(input_ids=fits, use_cache=False)
    if kind in END_AT_32:
        assert longest_row(model) == 32
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            model(input_ids=beyond, use_cache=False)
    else:
        assert longest_row(model) is None
        model(input_ids=beyond, use_cache=False)


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(target_modules=["wpe", "wte"]),
        LoraSettings(target_modules=["c_attn"], modules_to_save=["wpe", "wte"]),
    ],
)
def test_positions_end_where_they_do_when_they_are_trained(gpt2, lora):
    assert longest_row(attach(load_base(gpt2, 0), lora, 0)) == 128


def test_a_run_of_rows_beyond_the_last_position_is_refused_before_any_work(tmp_path, gpt2):
    words = words_for(tmp_path, "--model.source", gpt2.source, "--corpus.max_tokens", "129")
    said = tmp_path / "said"
    assert exit_code_of(tune, [*words, "--lora.target_modules", "[c_attn]"], told=said) == 2
    expected = "corpus.max_tokens=129: GPT2LMHeadModel has positions for 128 tokens; set at most"
    assert expected in " ".join(said.read_text().split())
    assert list(tmp_path.iterdir()) == [said]


def test_terms_of_rows_beyond_the_last_position_are_neither_written_nor_taken(gpt2):
    lora = LoraSettings(target_modules=["c_attn"])
    asked = RunSettings(model=gpt2, lora=lora, corpus=CorpusSettings(max_tokens=128))
    terms = terms_of(asked, "0" * 64)
    with pytest.raises(SettingError, match=r"corpus\.max_tokens=129: .* set at most 128"):
        terms_of(replace(asked, corpus=CorpusSettings(max_tokens=129)), "0" * 64)
    own = AgentSettings("city", "", device="cpu", threads=1)
    examples = [Example(f"question {n}", f"answer {n}") for n in range(20)]
    longer = replace(terms, rows=RowSettings(max_tokens=129))
    with pytest.raises(SettingError, match=r"rows\.max_tokens=129: .* set at most 128"):
        open_bench(own, longer, examples)
