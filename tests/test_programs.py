"""The programs on a finished adapter: evaluate, export, generate; and every program's --help."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmagentos.errors import SettingError
from llmagentos.recipes import evaluate, export, generate
from llmagentos.recipes.command import load_settings
from llmagentos.recipes.fedavg_lora import RECIPE
from llmagentos.recipes.trained import read_asked
from llmagentos.recipes.tuning import main as tune
from llmagentos.report.quantities import printable
from llmagentos.settings import RunSettings
from tests.crashing import arm, exit_code_of

ROOT = Path(__file__).parent.parent
SMOKE = str(ROOT / "recipes" / "smoke.yaml")
QUICK = ["--config", SMOKE, "--threads", "1", "--local.lr", "0.03", "--seed", "3"]
PROMPT = "Bed 4: itchy rash?"
PROGRAMS = sorted(
    path.stem
    for path in (ROOT / "llmagentos" / "recipes").glob("*.py")
    if 'if __name__ == "__main__"' in path.read_text()
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run on a random model."""
    out = tmp_path_factory.mktemp("runs")
    words = [*QUICK, "--out", str(out), "--name", "run", "--sample-prompt", PROMPT]
    assert tune(RECIPE, words) == 0
    return out / "run"


@pytest.fixture
def elsewhere(run, tmp_path):
    """The same adapter without the run around it."""
    return shutil.copytree(run / "adapter", tmp_path / "moved" / "adapter")


def silos_of(*words, file):
    assert evaluate.main([*words, "--json", str(file)]) == 0
    return json.loads(file.read_text())["silos"]


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_answers_help_without_torch(program):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{program}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('llmagentos.recipes.{program}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m llmagentos.recipes.{program} [" in done.stdout


def test_the_one_door_knows_every_program():
    from llmagentos import __main__

    assert sorted(__main__.PROGRAMS) == PROGRAMS


def test_the_defaults_are_spelled_out_truly():
    assert load_settings(ROOT / "recipes" / "fedavg.yaml") == RunSettings()


def test_the_last_measurement_of_a_run_can_be_repeated(run, tmp_path):
    words = ["--adapter", str(run / "adapter"), "--rows", "12"]
    assert silos_of(*words, file=tmp_path / "after.json") == summary_of(run)["after"]


def test_without_an_adapter_the_base_is_measured(run, tmp_path):
    words = ["--config", str(run / "settings.yaml"), "--rows", "12"]
    assert silos_of(*words, file=tmp_path / "before.json") == summary_of(run)["before"]


def test_all_held_out_rows_are_read_unless_told(run, tmp_path):
    adapter = ["--adapter", str(run / "adapter")]
    few = silos_of(*adapter, "--rows", "2", file=tmp_path / "few.json")
    every = silos_of(*adapter, file=tmp_path / "every.json")
    assert all(few[silo]["tokens"] < every[silo]["tokens"] for silo in every)


def test_an_adapter_from_elsewhere_needs_its_base_named(elsewhere, run, tmp_path):
    corpus = ["--seed", "3", "--corpus.source", "invented", "--corpus.max-tokens", "96"]
    words = ["--adapter", str(elsewhere), "--model.source", "tiny", "--rows", "12"]
    found = silos_of(*words, *corpus, file=tmp_path / "found.json")
    assert found == summary_of(run)["after"]


def test_words_win_over_the_file_and_the_file_over_the_run(run, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text("model: {source: tiny}\nseed: 5\nevaluation: {batch: 2}\n")
    adapter = f"--adapter={run / 'adapter'}"

    def read(*words):
        asked = read_asked(evaluate.EvaluateSettings, "evaluate", "", [*words, adapter])
        return asked.seed, asked.batch, asked.corpus.source

    assert read() == (3, 8, "invented")
    assert read("--config", str(file)) == (5, 2, "icd10")
    assert read("--seed", "9", f"--config={file}", "--batch=4") == (9, 4, "icd10")


def test_the_table_has_every_silo_and_their_mean(run, capsys):
    assert evaluate.main(["--adapter", str(run / "adapter"), "--rows", "12"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    after = summary_of(run)["after"]
    mean = np.mean([numbers["loss"] for numbers in after.values()])
    assert {line[0] for line in lines} >= after.keys()
    assert lines[-1][:3] == ["mean", "of", "silos"]
    assert float(lines[-1][4]) == pytest.approx(mean, abs=6e-4)
    assert float(lines[-1][5]) == pytest.approx(np.exp(mean), rel=6e-3)


def test_both_answers_are_those_of_the_run(run, capsys):
    words = ["--adapter", str(run / "adapter"), "--prompt", PROMPT, "--max-tokens", "24"]
    assert generate.main(words) == 0
    first, second = capsys.readouterr().out.splitlines()
    sample = summary_of(run)["sample"]
    assert first.removeprefix("base model").strip() == printable(sample["before"])
    assert second.removeprefix("with adapter").strip() == printable(sample["after"])
    assert sample["before"] != sample["after"]


def test_an_exported_model_answers_as_base_and_adapter_do(run, tmp_path, capsys):
    out = tmp_path / "merged"
    assert export.main(["--adapter", str(run / "adapter"), "--out", str(out)]) == 0
    assert f"from_pretrained({str(out)!r})" in capsys.readouterr().out
    adapter = ["--config", str(run / "settings.yaml"), "--rows", "12"]
    merged = silos_of(*adapter, "--model.source", str(out), file=tmp_path / "merged.json")
    for silo, numbers in summary_of(run)["after"].items():
        assert merged[silo]["loss"] == pytest.approx(numbers["loss"], abs=1e-5)


WRONG = [
    (evaluate, "--adapter {run}", r"adapter='.*run': that is the run; set .*run/adapter"),
    (evaluate, "--adapter nowhere", "adapter='nowhere': no adapter_config.json there"),
    (evaluate, "--config nowhere", "--config='nowhere': no such file; shipped ones: .*smoke"),
    (evaluate, "--config", "--config: expected one argument"),
    (evaluate, "--json nowhere/x.json", "json='nowhere/x.json': needs the name of a file"),
    (evaluate, "--json {run}", "json='.*run': needs the name of a file in a folder that you may"),
    (evaluate, "--json=", "json='': needs the name of a file"),
    (generate, "--adapter {run}/adapter --prompt \udcff", r"prompt='.udcff': holds bytes that are"),
    (evaluate, "--rows 0", "rows=0: needs at least 1"),
    (evaluate, "--local.steps 3", "unknown setting local.steps"),
    (evaluate, "--adapter {run}/adapter --model.source no-such/base", "no-such/base"),
    (export, "--out x", "adapter is not set"),
    (export, "--adapter {run}/adapter", "out is not set: name the folder"),
    (export, "--adapter {run}/adapter --out {run}", "exists: remove it or name another"),
    (generate, "--prompt x", "adapter is not set"),
    (generate, "--adapter {run}/adapter", "prompt is not set: write what to answer"),
    (
        generate,
        "--adapter {run}/adapter --prompts x",
        "unknown setting prompts; did you mean prompt",
    ),
]


@pytest.mark.parametrize(("program", "words", "message"), WRONG)
def test_a_wrong_word_ends_with_2_and_its_remedy(run, program, words, message, capsys):
    assert program.main(words.format(run=run).split()) == 2
    with pytest.raises(SettingError, match=message):
        raise SettingError(capsys.readouterr().err)


def test_what_was_measured_is_printed_where_its_file_cannot_be_written(
    run, tmp_path, capsys, monkeypatch
):
    def full(path, body):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluate, "write_durably", full)
    words = ["--adapter", str(run / "adapter"), "--rows", "1", "--json", str(tmp_path / "x.json")]
    assert evaluate.main(words) == 1
    told = capsys.readouterr()
    assert "mean of silos" in told.out
    assert "error: " in told.err


def test_a_terminal_that_lacks_a_letter_shows_the_rest(tmp_path):
    arrow = tmp_path / "\N{RIGHTWARDS ARROW}"
    arrow.mkdir()

    def ended(*words):
        return subprocess.run(
            [sys.executable, "-m", "llmagentos", *words],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
        )

    named = ended("fedavg_lora", *QUICK, "--rounds=1", "--local.steps=1", f"--out={arrow}")
    assert (named.returncode, named.stderr) == (0, "")
    assert "? " in named.stdout
    assert "mean of agents" in named.stdout
    missing = ended("status", "--out", str(arrow / "\N{SNOWMAN}"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.endswith("/?/?': holds no run; name the folder of one\n")


def test_an_adapter_is_measured_as_its_run_did(run, elsewhere, tmp_path, capsys):
    link = tmp_path / "link"
    link.symlink_to(run / "adapter")

    def source(adapter):
        asked = read_asked(evaluate.EvaluateSettings, "evaluate", "", [f"--adapter={adapter}"])
        return asked.corpus.source, capsys.readouterr().err

    assert source(run / "best") == source(link) == ("invented", "")
    told = f"{elsewhere}: no settings.yaml of its run; what is not said has its default\n"
    assert source(elsewhere) == ("icd10", told)


def interrupted(words):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    arm(0, signal.SIGINT)
    raise SystemExit(export.main(words))


def test_ctrl_c_ends_with_130_and_leaves_no_half_model(run, tmp_path):
    out = tmp_path / "merged"
    assert exit_code_of(interrupted, ["--adapter", str(run / "adapter"), "--out", str(out)]) == 130
    assert list(tmp_path.iterdir()) == []
