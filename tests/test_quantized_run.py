"""Runs and programs on a base of four or eight bits."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from peft import PeftModel
from torch import nn

from llmagentos.agent import AgentSettings, Limits
from llmagentos.corpus import Example
from llmagentos.errors import JournalError, ModelError
from llmagentos.journal import Journal
from llmagentos.lm.export import merge
from llmagentos.lm.models import load_base
from llmagentos.recipes import evaluate, export
from llmagentos.recipes.checking import try_model
from llmagentos.recipes.desk import open_bench
from llmagentos.recipes.terms import terms_of
from llmagentos.settings import ModelSettings, RunSettings
from tests.crashing import exit_code_of, tune
from tests.test_recipe import bits, metrics, words_for

bnb = pytest.importorskip("bitsandbytes")

METHODS = pytest.mark.parametrize("method", ["nf4", "int8"])
TINY = ModelSettings(source="tiny", device="cpu")


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


def test_a_run_is_held_to_the_bits_that_its_base_was_packed_into(tuned):
    base = load_base(replace(TINY, quantize="nf4"), 0)
    same = {"base": base.hash, "quantized base": base.quantized_hash}
    with Journal(tuned / "journal") as journal:
        layout = journal.state().adapter.layout
        assert journal.begin(layout, same, journal.state) == journal.run
        with pytest.raises(JournalError, match="began with another quantized base"):
            journal.begin(layout, {**same, "quantized base": base.hash}, journal.state)


def test_the_card_says_what_the_base_was_quantized_to(tuned):
    assert "quantize: nf4" in (tuned / "adapter" / "README.md").read_text()


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
    words = ["llmagentos.recipes.generate", "--adapter", str(tuned / "adapter")]
    words += ["--model.quantize", "int8", "--prompt", "one", "--max_tokens", "2"]
    program = [sys.executable, "-m", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_an_organisation_may_hold_the_agreed_base_in_four_bits():
    agreed = terms_of(RunSettings(model=TINY), "0" * 64)
    examples = [Example(f"question {n}", f"answer {n}") for n in range(20)]
    limits = Limits(rounds=1, steps=1, epochs=1.0, examples=1, rows=1, held_out=1)
    own = AgentSettings("city", "", device="cpu", quantize="nf4", threads=1, limits=limits)
    bench = open_bench(own, agreed, examples)
    layers = bench.trainer.bench.model.modules()
    assert sum(isinstance(layer, bnb.nn.Linear4bit) for layer in layers) == 14
    assert "quantization" not in str(bench.published)
    line = try_model(SimpleNamespace(settings=own, terms=agreed, bench=bench))
    assert line.startswith("the agreed weights, held in nf4; ")
    with pytest.raises(ModelError, match="the terms want"):
        open_bench(own, replace(agreed, base="0" * 64), examples)
