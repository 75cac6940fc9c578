"""Whole runs with other ways to aggregate, as a user starts them on the smoke settings."""

import json

import numpy as np
import pytest

from llmagentos.memory import folder_name
from llmagentos.recipes import evaluate
from tests.crashing import exit_code_of, tune
from tests.test_recipe import bits, metrics, words_for

AGENTS = ("hospital", "bank", "factory", "city")


def played(out, method, *more):
    assert exit_code_of(tune, words_for(out, "--aggregation", method, *more)) == 0
    return out / "run"


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("method", ["ffa", "rolora", "fedsvd", "flexlora", "lora_fair", "hetlora"])
def test_every_agent_learns_and_the_ledger_shows_halves(tmp_path, method):
    folder = played(tmp_path, method)
    summary = summary_of(folder)
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]
    halved = method in ("ffa", "rolora", "fedsvd")
    values = [round(line["bytes_up"] / 4 / 4 / 3584, 1) for line in metrics(folder)]
    assert (max(values) < 0.8) == halved
    assert all(line["product_error"] is not None for line in metrics(folder))


@pytest.mark.parametrize("method", ["fedex", "flora"])
def test_the_published_folder_is_one_adapter_that_measures_as_the_run_did(tmp_path, method):
    folder = played(tmp_path, method)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["r"] > 8
    assert config["lora_alpha"] / config["r"] == pytest.approx(2)
    again = tmp_path / "again.json"
    words = ["--adapter", str(folder / "adapter"), "--rows", "4", "--json", str(again)]
    assert evaluate.main(words) == 0
    found = json.loads(again.read_text())["silos"]
    for agent, numbers in summary_of(folder)["after"].items():
        assert found[agent]["loss"] == pytest.approx(numbers["loss"], rel=1e-5)


def test_a_private_factor_stays_in_the_agents_own_folder_and_measures_as_the_run_did(tmp_path):
    folder = played(tmp_path, "fedsa")
    summary = summary_of(folder)
    for agent in AGENTS:
        place, again = folder / "personal" / folder_name(agent), tmp_path / f"{agent}.json"
        words = ["--adapter", str(place), "--config", str(folder / "settings.yaml")]
        assert evaluate.main([*words, "--rows", "4", "--json", str(again)]) == 0
        found = json.loads(again.read_text())["silos"][agent]["loss"]
        assert found == pytest.approx(summary["after"][agent]["loss"], rel=1e-5)
        assert found < summary["before"][agent]["loss"]
        assert summary["personal"][agent][agent] == pytest.approx(found, rel=1e-5)
        assert summary["personal"][agent].keys() == set(AGENTS)


@pytest.mark.parametrize(("method", "point"), [("rolora", 90), ("fedsa", 130), ("fedex", 150)])
def test_a_killed_run_and_resumed_ends_with_the_same_bits(tmp_path, method, point):
    whole = played(tmp_path / "whole", method)
    parted = tmp_path / "parted"
    assert exit_code_of(tune, words_for(parted, "--aggregation", method), point) < 0
    assert exit_code_of(tune, words_for(parted, "--resume")) == 0
    assert bits(parted / "run") == bits(whole)
    assert metrics(parted / "run") == metrics(whole)


@pytest.mark.parametrize("engine", ["in_process", "processes"])
def test_agents_of_unequal_ranks_train_together(tmp_path, engine):
    words = ["--lora.ranks", "{city: 2, bank: 4}", "--engine", engine]
    folder = played(tmp_path, "flexlora", *words)
    for line in metrics(folder):
        sizes = line["bytes_by_agent"]
        assert sizes["city"] < sizes["bank"] < sizes["factory"]
        assert np.isfinite(line["loss"])


@pytest.mark.parametrize("method", ["ditto", "dual"])
def test_agents_of_unequal_modules_train_together_and_publish_what_they_have(tmp_path, method):
    words = ["--lora.modules", "{city: [q_proj]}", "--personal.method", method]
    folder = played(tmp_path, "zero_pad", *words)
    for line in metrics(folder):
        assert line["bytes_by_agent"]["city"] < line["bytes_by_agent"]["factory"]
        assert np.isfinite(line["loss"])
    place, again = folder / "personal" / folder_name("city"), tmp_path / "again.json"
    words = ["--adapter", str(place), "--config", str(folder / "settings.yaml")]
    assert evaluate.main([*words, "--rows", "4", "--json", str(again)]) == 0
    found = json.loads(again.read_text())["silos"]["city"]["loss"]
    assert found == pytest.approx(summary_of(folder)["after"]["city"]["personal_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--lora.modules", "{city: [o_proj]}", "--aggregation", "zero_pad"],
            "lora.modules.city=['o_proj']: lora.target_modules adapts q_proj, v_proj",
        ),
        (
            ["--lora.ranks", "{nobody: 2}", "--aggregation", "flora"],
            "lora.ranks='nobody': no such agent; there are hospital",
        ),
        (
            ["--aggregation", "flexlora", "--server.strategy", "fedyogi"],
            "takes no server optimizer",
        ),
    ],
)
def test_a_wrong_setting_ends_with_2(tmp_path, words, message):
    said = tmp_path / "said"
    assert exit_code_of(tune, words_for(tmp_path, *words), told=said) == 2
    assert message in said.read_text()
