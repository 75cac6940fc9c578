"""Whole runs whose agents have adapters of their own, as a user starts them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmagentos.codecs import unpack
from llmagentos.journal import Journal
from llmagentos.memory import folder_name
from llmagentos.recipes import evaluate
from tests.crashing import exit_code_of, tune
from tests.test_recipe import bits, metrics, words_for

AGENTS = ("hospital", "bank", "factory", "city")
WORDS = {
    "ditto": ["--personal.method", "ditto", "--trainer", "cohort"],
    "dual": ["--personal.method", "dual", "--trainer", "single"],
}


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def own_of(folder, agent):
    """The vector that an agent keeps after the last round, and its bytes on the disk."""
    kept = folder / "agents" / folder_name(agent) / "personal" / "round-2.safetensors"
    return unpack(kept.read_bytes())[1]["personal"]


@pytest.fixture(scope="module", params=WORDS)
def run(request, tmp_path_factory):
    """The name of a method and the folder of a run with it that nothing happened to."""
    out = tmp_path_factory.mktemp(request.param)
    said = out / "said"
    assert exit_code_of(tune, words_for(out, *WORDS[request.param]), told=said) == 0
    return request.param, out / "run"


def test_every_round_and_the_end_tell_of_both_adapters(run):
    _, folder = run
    summary, said = summary_of(folder), (folder.parent / "said").read_text()
    for line in metrics(folder):
        assert line["personal"].keys() == line["agents"].keys() == set(AGENTS)
    for agent, losses in summary["personal"].items():
        assert losses.keys() == set(AGENTS)
        home = summary["after"][agent]["personal_loss"]
        assert losses[agent] == pytest.approx(home, rel=1e-5)
        assert home < summary["before"][agent]["loss"]
        assert home != summary["after"][agent]["loss"]
    assert "Held-out loss of shared and personal adapters" in said
    assert "On their own silos the personal adapters are" in said
    assert "<h2>Shared and personal</h2>" in (folder / "report.html").read_text()


def test_the_folder_of_an_own_adapter_measures_as_the_run_did_at_home_and_away(run, tmp_path):
    name, folder = run
    place, again = folder / "personal" / folder_name("bank"), tmp_path / "again.json"
    assert evaluate.main(["--adapter", str(place), "--rows", "4", "--json", str(again)]) == 0
    found = json.loads(again.read_text())["silos"]
    expected = summary_of(folder)["personal"]["bank"]
    assert {a: m["loss"] for a, m in found.items()} == pytest.approx(expected, rel=1e-5)
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["r"] == {"ditto": 8, "dual": 16}[name]
    assert config["lora_alpha"] / config["r"] == 2


@pytest.mark.parametrize("point", [70, 140])
def test_a_killed_run_and_resumed_ends_with_the_same_bits(run, tmp_path, point):
    name, whole = run
    words = words_for(tmp_path, *WORDS[name])
    assert exit_code_of(tune, words, point) < 0
    assert exit_code_of(tune, words_for(tmp_path, "--resume")) == 0
    assert bits(tmp_path / "run") == bits(whole)
    assert metrics(tmp_path / "run") == metrics(whole)
    for agent in AGENTS:
        assert np.array_equal(own_of(tmp_path / "run", agent), own_of(whole, agent))
    assert summary_of(tmp_path / "run")["personal"] == summary_of(whole)["personal"]


def test_ditto_without_a_pull_is_the_local_training_that_it_is_compared_with(tmp_path):
    words = ["--personal.method", "ditto", "--personal.mu", "0", "--trainer", "single"]
    more = ["--compare", "--local.mu", "0.1", "--lora.dropout", "0.1"]
    assert exit_code_of(tune, words_for(tmp_path, *words, *more)) == 0
    folder = tmp_path / "run"
    for number, agent in enumerate(AGENTS, 1):
        with Journal(folder / "compare" / f"local-{number}") as journal:
            alone = journal.state().adapter
        own = load_file(folder / "personal" / folder_name(agent) / "adapter_model.safetensors")
        assert np.array_equal(own_of(folder, agent), alone.vector)
        assert all(np.array_equal(own[name], alone[name]) for name in alone.layout.names)
    summary = summary_of(folder)
    assert summary["personal"] == summary["compare"]["local"]


def test_what_is_kept_apart_is_read_at_home_only(tmp_path):
    words = ["--personal.method", "ditto", "--evaluation.away", "false", "--trainer", "single"]
    assert exit_code_of(tune, words_for(tmp_path, *words)) == 0
    personal = summary_of(tmp_path / "run")["personal"]
    assert {agent: set(losses) for agent, losses in personal.items()} == {a: {a} for a in AGENTS}
