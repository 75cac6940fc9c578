"""The recipes as a user runs them, on the smoke settings: what they leave, and after a crash."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from llmagentos.codecs import unpack
from llmagentos.federation import measure
from llmagentos.journal import Journal
from llmagentos.messages import answer
from tests.crashing import exit_code_of, tune
from tests.quadratics import ROSTER, Quadratic, federation

SMOKE = str(Path(__file__).parent.parent / "recipes" / "smoke.yaml")
QUICK = ["--config", SMOKE, "--threads", "1", "--local.steps", "2", "--evaluation.final_rows", "4"]


def words_for(out, *more):
    return [*QUICK, "--out", str(out), "--name", "run", *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert exit_code_of(tune, words_for(out)) == 0
    return out / "run"


def bits(folder):
    """The journal's final vectors and the published weights, as bytes."""
    with Journal(folder / "journal") as journal:
        vectors = {n: v.tobytes() for n, v in journal.state().vectors().items()}
    return vectors, (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def test_metrics_have_one_object_a_round(undisturbed):
    found = metrics(undisturbed)
    assert [line["round"] for line in found] == [1, 2]
    for line in found:
        assert line["agents"].keys() == {"hospital", "bank", "factory", "city"}
        assert line["loss"] == pytest.approx(np.mean(list(line["agents"].values())))
        assert line["bytes_down"] == 4 * 3584 * 4
        assert line["bytes_up"] > line["bytes_down"]
        assert line["refused"] == {}


def test_the_best_adapter_is_one_of_those_that_were_read(undisturbed, tmp_path):
    words = words_for(tmp_path, "--rounds", "3", "--evaluation.every", "2")
    assert exit_code_of(tune, words) == 0
    found = metrics(tmp_path / "run")
    assert [line["loss"] is not None for line in found] == [False, True, False]
    assert found[1]["loss"] == metrics(undisturbed)[1]["loss"]
    best = tmp_path / "run" / "best" / "adapter_model.safetensors"
    assert best.read_bytes() == bits(undisturbed)[1] != bits(tmp_path / "run")[1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Read every 2 rounds on up to 8 held-out rows of each agent, at round 0" in page


def test_the_published_adapter_is_the_journals_bit_for_bit_and_peft_loads_it(undisturbed):
    from peft import PeftModel

    from llmagentos.lm.models import load_base
    from llmagentos.settings import ModelSettings

    with Journal(undisturbed / "journal") as journal:
        kept = journal.state().adapter
    published = load_file(undisturbed / "adapter" / "adapter_model.safetensors")
    assert {n: t.tobytes() for n, t in published.items()} == {
        n: t.tobytes() for n, t in kept.tensors.items()
    }
    base = load_base(ModelSettings(source="tiny", device="cpu"), 0)
    model = PeftModel.from_pretrained(base.model, undisturbed / "adapter")
    loaded = {name.replace(".default", ""): p for name, p in model.named_parameters()}
    assert all(np.array_equal(loaded[name].detach(), kept[name]) for name in kept.layout.names)


def test_the_best_round_is_kept_beside_the_last(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    losses = [line["loss"] for line in metrics(undisturbed)]
    assert summary["best_round"] == 1 + int(np.argmin(losses))
    assert (undisturbed / "best" / "adapter_model.safetensors").is_file()


def test_every_agent_learns_something(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]


def test_losses_are_those_that_were_recorded(undisturbed):
    """A golden run: a refactor that changes numbers is seen here."""
    assert [line["loss"] for line in metrics(undisturbed)] == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN = [5.471273, 5.397474]


def test_report_and_settings_are_left(undisturbed):
    assert "<svg" in (undisturbed / "report.html").read_text()
    assert "schedule_rounds: 2" in (undisturbed / "settings.yaml").read_text()
    assert "not privacy" in (undisturbed / "adapter" / "README.md").read_text()


@pytest.mark.parametrize("point", [0, 1, 2, 3, 5, 30, 60, 90, 120, 150, 180])
def test_a_run_killed_anywhere_and_resumed_ends_with_the_same_bits(undisturbed, tmp_path, point):
    killed = exit_code_of(tune, words_for(tmp_path), point)
    assert killed == -signal.SIGKILL
    begun = (tmp_path / "run" / "settings.yaml").exists()
    assert exit_code_of(tune, words_for(tmp_path, *["--resume"] * begun)) == 0
    assert bits(tmp_path / "run") == bits(undisturbed)
    assert metrics(tmp_path / "run") == metrics(undisturbed)


@pytest.fixture(scope="module")
def undisturbed_int8(tmp_path_factory):
    """As ``undisturbed``, with a codec whose losses the agents keep."""
    out = tmp_path_factory.mktemp("int8")
    assert exit_code_of(tune, words_for(out, "--codec.name", "int8")) == 0
    return out / "run"


@pytest.mark.parametrize("point", [45, 90, 135, 180, 225])
def test_a_killed_run_in_int8_and_resumed_ends_with_the_same_bits(
    undisturbed_int8, tmp_path, point
):
    assert exit_code_of(tune, words_for(tmp_path, "--codec.name", "int8"), point) < 0
    assert exit_code_of(tune, words_for(tmp_path, "--resume")) == 0
    assert bits(tmp_path / "run") == bits(undisturbed_int8)
    assert metrics(tmp_path / "run") == metrics(undisturbed_int8)
    assert memories(tmp_path / "run") == memories(undisturbed_int8)


def memories(folder):
    """The residuals of all agents, by agent and round; each file names its own run."""
    return {
        path.relative_to(folder): unpack(path.read_bytes())[1]["delta"].tobytes()
        for path in (folder / "agents").rglob("*.safetensors")
    }


SCAFFOLD = ["--config", str(Path(SMOKE).with_name("scaffold.yaml"))]


def scaffold_words(out, *more):
    """Both settings files, the smaller model last; every agent keeps a control variate."""
    words = words_for(out, "--local.lr", "0.1", *more)
    return [*SCAFFOLD, *words]


@pytest.fixture(scope="module")
def undisturbed_scaffold(tmp_path_factory):
    """As ``undisturbed``, with agents that keep what corrects their drift."""
    out = tmp_path_factory.mktemp("scaffold")
    assert exit_code_of(tune, scaffold_words(out)) == 0
    return out / "run"


@pytest.mark.parametrize("point", [60, 120, 180])
def test_a_killed_run_of_scaffold_and_resumed_ends_with_the_same_bits(
    undisturbed_scaffold, tmp_path, point
):
    assert exit_code_of(tune, scaffold_words(tmp_path), point) < 0
    assert exit_code_of(tune, scaffold_words(tmp_path, "--resume")) == 0
    assert bits(tmp_path / "run") == bits(undisturbed_scaffold)
    assert metrics(tmp_path / "run") == metrics(undisturbed_scaffold)


def test_a_run_without_common_rounds_is_killed_and_resumed_to_the_same_bits(tmp_path):
    words = ["--server.strategy", "fedbuff", "--rounds", "5"]
    assert exit_code_of(tune, words_for(tmp_path / "whole", *words)) == 0
    expected = tmp_path / "whole" / "run"
    assert {a: s for line in metrics(expected) for a, s in line["staleness"].items() if s}
    summary = json.loads((expected / "summary.json").read_text())
    for agent, before in summary["before"].items():
        assert summary["after"][agent]["loss"] < before["loss"]
    for point in (60, 100, 140):
        out = tmp_path / str(point)
        assert exit_code_of(tune, words_for(out, *words), point) < 0
        assert exit_code_of(tune, words_for(out, "--rounds", "5", "--resume")) == 0
        assert bits(out / "run") == bits(expected)
        assert metrics(out / "run") == metrics(expected)


def test_scaffold_sends_two_vectors_both_ways_and_its_controls_add_up(undisturbed_scaffold):
    for line in metrics(undisturbed_scaffold):
        assert line["bytes_down"] == 2 * 4 * 3584 * 4
        assert line["bytes_up_fp32"] == line["bytes_up"] > 2 * 4 * 3584 * 4
    kept = [
        unpack(path.read_bytes())[1]["control"].astype(np.float64)
        for path in (undisturbed_scaffold / "agents").rglob("round-2.safetensors")
    ]
    with Journal(undisturbed_scaffold / "journal") as journal:
        c = journal.state().moments["control"]
    assert len(kept) == 4
    assert np.abs(c).max() > 0
    np.testing.assert_allclose(np.sum(kept, axis=0), 4 * c.astype(np.float64), atol=1e-6)


def test_int8_sends_less_loses_little_and_keeps_the_rest_to_the_agents(
    undisturbed, undisturbed_int8
):
    coded, plain = metrics(undisturbed_int8), metrics(undisturbed)
    assert [line["codec"] for line in coded] == ["int8", "int8"]
    assert [line["bytes_up_fp32"] - line["bytes_up"] for line in coded] == [
        4 * (4 * 3584 - 3584 - 4 * 28)
    ] * 2
    assert coded[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.01)
    assert len(memories(undisturbed_int8)) == 4 * 2
    assert memories(undisturbed) == {}


def test_ctrl_c_says_how_to_resume_and_loses_nothing(undisturbed, tmp_path):
    said = tmp_path / "said"
    assert exit_code_of(tune, words_for(tmp_path), 60, signal.SIGINT, told=said) == 130
    told = said.read_text()
    assert "interrupted; nothing is lost. Go on with: python -m llmagentos" in told
    assert "--name run --resume" in told
    assert exit_code_of(tune, words_for(tmp_path, "--resume")) == 0
    assert bits(tmp_path / "run") == bits(undisturbed)


def test_a_resumed_run_may_get_more_rounds(undisturbed, tmp_path):
    assert exit_code_of(tune, words_for(tmp_path, "--rounds", "1", "--schedule_rounds", "2")) == 0
    assert exit_code_of(tune, words_for(tmp_path, "--resume", "--schedule_rounds", "2")) == 0
    assert bits(tmp_path / "run") == bits(undisturbed)


def test_rounds_at_a_rate_of_zero_are_refused_or_told(tmp_path):
    said = tmp_path / "said"
    cosine = words_for(tmp_path, "--local.schedule", "cosine", "--rounds", "2")
    more = [*cosine, "--schedule_rounds", "1"]
    assert exit_code_of(tune, more, told=said) == 2
    assert "rounds=2: the learning rate is 0 after schedule_rounds=1; set that to 2" in (
        said.read_text()
    )
    assert not (tmp_path / "run").exists()
    once = words_for(tmp_path, "--local.schedule", "cosine", "--rounds", "1")
    assert exit_code_of(tune, once) == 0
    assert exit_code_of(tune, words_for(tmp_path, "--resume", "--rounds", "2"), told=said) == 0
    assert "rounds=2: the learning rate is 0 after schedule_rounds=1" in said.read_text()


def test_a_resume_names_whose_text_is_another(tmp_path):
    files = {name: tmp_path / f"{name}.txt" for name in ("north", "south")}
    for name, file in files.items():
        file.write_text("\n\n".join(f"Entry {i} of {name}: all is well." for i in range(20)))
    agents = ["--corpus.agents", json.dumps({name: str(file) for name, file in files.items()})]
    assert exit_code_of(tune, words_for(tmp_path, *agents, "--rounds", "1")) == 0
    files["south"].write_text(files["south"].read_text().replace("Entry 7", "Entry 77"))
    said = tmp_path / "said"
    words = words_for(tmp_path, "--resume", *agents, "--rounds", "2")
    assert exit_code_of(tune, words, told=said) == 1
    assert "journal began with another text of 'south'; resume with the same" in said.read_text()


def test_kept_updates_stay_and_others_go(tmp_path):
    assert exit_code_of(tune, words_for(tmp_path, "--keep_updates", "true", "--rounds", "1")) == 0
    with Journal(tmp_path / "run" / "journal") as journal:
        assert [a.update.agent for a in journal.answers.admitted(1, "fit")] == [
            "bank",
            "city",
            "factory",
            "hospital",
        ]


def test_comparison_trains_every_agent_alone_and_all_text_together(tmp_path):
    assert exit_code_of(tune, words_for(tmp_path, "--rounds", "1", "--compare")) == 0
    compared = json.loads((tmp_path / "run" / "summary.json").read_text())["compare"]
    agents = {"hospital", "bank", "factory", "city"}
    assert compared["local"].keys() == compared["central"].keys() == agents
    assert all(row.keys() == agents for row in compared["local"].values())
    assert compared["local"]["bank"]["bank"] != compared["local"]["city"]["bank"]


def test_a_comparison_trains_as_much_as_the_agents_of_the_run(tmp_path):
    """Two of four agents in each of two rounds: everybody trains once, in the mean."""
    more = ["--compare", "--server.fraction", "0.5", "--local.keep_moments", "true"]
    assert exit_code_of(tune, words_for(tmp_path, *more)) == 0
    compared = sorted((tmp_path / "run" / "compare").iterdir())
    assert len(compared) == 5
    for folder in compared:
        with Journal(folder) as journal:
            assert len(journal.reports()) == 1


def test_numbers_that_are_none_are_in_no_file(tmp_path):
    from llmagentos.recipes.publishing import metrics_after

    class Hollow(Quadratic):
        def evaluate(self, task):
            return answer(task, metrics={"loss": 1.5, "accuracy": np.nan, "tokens": 3.0})

    parts = federation(tmp_path, trainer=Hollow(), fit={})
    parts = replace(parts, plan=replace(parts.plan, settings={"measure": {}}))
    measure("measure", parts.journal.state(), parts)
    after = metrics_after(parts.journal, 0)
    assert after == {name: {"loss": 1.5, "tokens": 3.0} for name in ROSTER}


def test_a_run_starts_from_an_adapter_that_another_left(undisturbed, tmp_path):
    start = ["--init-adapter", str(undisturbed / "adapter"), "--rounds", "1"]
    assert exit_code_of(tune, words_for(tmp_path, *start)) == 0
    before = json.loads((tmp_path / "run" / "summary.json").read_text())["before"]
    after = json.loads((undisturbed / "summary.json").read_text())["after"]
    assert before == after


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path):
    said = tmp_path / "said"
    assert exit_code_of(tune, words_for(tmp_path, "--dry-run"), told=said) == 0
    assert "3,584 of 94,208" in said.read_text()
    assert "57,344 up" in said.read_text()
    assert list(tmp_path.iterdir()) == [said]


def test_the_plan_of_scaffold_has_twice_the_bytes_and_that_of_uneven_agents_their_steps(tmp_path):
    said = tmp_path / "said"
    assert exit_code_of(tune, scaffold_words(tmp_path, "--dry-run"), told=said) == 0
    assert "114,688 up, 114,688 down" in said.read_text()
    words = words_for(tmp_path, "--dry-run", "--local.steps_by_agent", "{bank: 7}")
    assert exit_code_of(tune, words, told=said) == 0
    assert re.search(r"optimizer steps in all\s+26\b", said.read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "/proc/nowhere"], "--out='/proc/nowhere'"),
        (["--model.source", "./no-such-folder"], "model.source='./no-such-folder'"),
        (["--corpus.source", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--lora.target_modules", "[q_prj]"], "lora.target_modules='q_prj'"),
        (["--trackers", "[tensorbord]"], "trackers='tensorbord': unknown"),
        (["--model.device", "cuda"], "model.device='cuda'"),
        (["--init-adapter", "nowhere"], "nowhere"),
        (["--server.strategy", "fedbuff", "--server.buffer", "5"], "server.buffer=5: there are 4"),
        (["--server.strategy", "krum"], "needs 5 updates a round, and 4 agents give 4"),
        (["--local.steps_by_agent", "{bnk: 4}"], "local.steps_by_agent='bnk': no such agent"),
    ],
)
def test_a_wrong_setting_ends_with_2_before_any_work(tmp_path, words, message):
    said = tmp_path / "said"
    assert exit_code_of(tune, [*QUICK, "--out", str(tmp_path), *words], told=said) == 2
    assert message in said.read_text()
    assert list(tmp_path.iterdir()) == [said]


def test_trackers_get_the_numbers_of_every_round(tmp_path):
    words = words_for(tmp_path, "--trackers", "[tensorboard]", "--rounds", "1")
    assert exit_code_of(tune, words) == 0
    assert list((tmp_path / "run" / "trackers").rglob("events.*"))


def test_a_wrong_first_adapter_leaves_nothing(undisturbed, tmp_path):
    other, told = tmp_path / "other", tmp_path / "told"
    shutil.copytree(undisturbed / "adapter", other)
    weights = load_file(other / "adapter_model.safetensors")
    renamed = {f"un{name}": tensor for name, tensor in weights.items()}
    save_file(renamed, other / "adapter_model.safetensors")
    words = words_for(tmp_path, "--init_adapter", str(other))
    assert exit_code_of(tune, words, told=told) == 2
    assert str(other) in told.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "told"]


def test_a_journal_that_cannot_be_used_is_not_said_to_go_on(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    words, told = words_for(tmp_path, "--resume", "--rounds", "3"), tmp_path / "told"
    with Journal(tmp_path / "run" / "journal"):
        assert exit_code_of(tune, words, told=told) == 1
    assert "is in use by another process; wait for it" in told.read_text()
    assert "Go on with" not in told.read_text()
