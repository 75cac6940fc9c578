"""The command line: every setting by flag and by file, and clear words for a wrong one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmagentos.errors import SettingError
from llmagentos.recipes.command import Recipe, dump_settings, load_settings, read_command
from llmagentos.settings import LoraSettings, RunSettings

RECIPES = Path(__file__).parent.parent / "recipes"
RECIPE = Recipe("fedavg_lora", "A run.")


def read(*words, out, recipe=RECIPE):
    return read_command(recipe, [*words, "--out", str(out)])


def test_nothing_said_gives_the_defaults(tmp_path):
    command = read(out=tmp_path)
    assert command.settings == RunSettings()
    assert command.folder.path == tmp_path / "fedavg_lora"
    assert (command.resume, command.dry_run, command.compare) == (False, False, False)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("rounds: 5\nlocal:\n  steps: 2\n  lr: 0.1\n")
    settings = read("--config", str(file), "--local.steps", "7", out=tmp_path).settings
    assert (settings.rounds, settings.local.steps, settings.local.lr) == (5, 7, 0.1)
    assert settings.local.batch == RunSettings().local.batch


def test_a_door_has_defaults_of_its_own(tmp_path):
    prox = Recipe("fedprox_lora", "", {"local.mu": 0.01})
    assert read(out=tmp_path, recipe=prox).settings.local.mu == 0.01


def test_settings_survive_their_file(tmp_path):
    words = ["--corpus.agents", "{north: a b.csv}", "--lora.target_modules", "[all-linear]"]
    settings = read(*words, "--init-adapter", "x", out=tmp_path).settings
    assert (settings.corpus.agents, settings.init_adapter) == ({"north": "a b.csv"}, "x")
    file = tmp_path / "settings.yaml"
    file.write_text(dump_settings(settings))
    assert load_settings(file) == settings


WRONG = [
    (["--local.lrr", "1"], "unknown setting local.lrr; did you mean local.lr?"),
    (["--local.step", "1"], "unknown setting local.step; did you mean local.steps?"),
    (["--round", "1"], "unknown setting round; did you mean rounds?"),
    (["--local.steps", "many"], "local.steps='many': needs a whole number"),
    (["--threads", "x"], "threads='x': needs a whole number or null"),
    (["--local.lr", "nan"], "local.lr='nan': needs a finite number"),
    (["--lora.target_modules", "q"], r"lora.target_modules='q': needs a list such as \[a, b\]"),
    (["--model", "x"], "model='x': is a group of settings; set one of model.device, .*source"),
    (["--lr", "1"], "unknown setting lr; did you mean local.lr or server.lr?"),
    (["--corpus.agents", "{a: b, a: c}"], "'a' is there twice in {a, a}; rename one"),
    (["--name", "../a"], "--name='../a': needs to be the name of one folder"),
    (["--name", ""], "--name='': needs to be the name of one folder"),
    (["--config", "median", "--codec.name", "top_k"], "'median': codec.name='top_k' sends other"),
    (["--local.steps", "0"], "local.steps=0: needs at least 1"),
    (["--server.strategy", "fedadm"], "'fedadm': needs one of fedavg, .*mean fedadam?"),
    (["--lora.dropout", "1"], r"lora.dropout=1.0: needs to lie in \[0, 1\)"),
    (["--config", "nowhere.yaml"], "--config='nowhere.yaml': no such file"),
    (["--config", "/nowhere/smoke.yaml"], "--config='/nowhere/smoke.yaml': no such file"),
    (["--config", "smoke", "--seed", "1", "--config", "smoke"], "--config after --seed would"),
    (["--corpus.agents", "{1: a.txt}"], "corpus.agents=1: a name is text that can be printed; put"),
    (["--schedule_rounds", "0"], "schedule_rounds=0: needs at least 1"),
    (["--seed", "1", "--config", "smoke"], "--config after --seed would undo it"),
    (["--server.strategy", "scaffold"], "local.optimizer='adamw': .*set local.optimizer to sgd"),
    (["--server.strategy", "fednova"], "local.optimizer='adamw': .*'fednova' is defined for plain"),
    (["--server.strategy", "feddyn"], "server.weighting='examples': .*set it to uniform"),
    (["--config", "scaffold", "--local.precision", "fp16"], "precision='fp16': .*use bf16"),
    (["--config", "feddyn", "--local.mu", "1"], "local.mu=1.0: .*set local.mu to 0"),
    (["--config", "feddyn", "--server.lr", "2"], "server.lr=2.0: .*has no learning rate"),
    (["--config", "scaffold", "--server.sampling", "weighted"], "server.sampling='weighted'"),
    (["--config", "feddyn", "--privacy.clip", "1"], "privacy.clip=1.0: .*as they were before"),
    (["--config", "scaffold", "--privacy.clip", "1"], "privacy.clip=1.0: .*control variates"),
    (
        ["--config", "feddyn", "--codec.name", "int8", "--codec.error_feedback", "false"],
        "codec.error_feedback=False: .*'int8' loses a part for good; set it to true",
    ),
    (
        ["--config", "scaffold", "--local.schedule", "cosine", "--schedule_rounds", "1"],
        "rounds=.*is 0 after schedule_rounds=1; ask for no more",
    ),
    (
        ["--config", "feddyn", "--local.schedule", "cosine", "--schedule_rounds", "1"],
        "moves the adapter by its dual whatever the learning rate, which is 0 after sched",
    ),
    (
        ["--config", "fednova", "--local.lr", "0.5", "--local.mu", "4"],
        r"local.mu=4.0: needs mu \* local.lr=0.5 below 2",
    ),
    (["--config", "fedbuff", "--server.fraction", "0.5"], "server.fraction=0.5: .*set it to 1"),
    (["--config", "fedasync", "--server.deadline_s", "9"], "server.deadline_s=9.0: .*leave it out"),
    (["--seed", "18446744073709551616"], r"seed=.*needs to lie in \[0, 2\^64\)"),
    (["--threads", "100000"], r"threads=100000: needs to lie in \[1, 1024\]"),
    (["--server.sampling", "weighted"], "server.sampling='weighted': needs server.fraction below"),
    (["--server.buffer", "0"], "server.buffer=0: needs at least 1"),
    (["--local.steps_by_agent", "{bank: 0}"], "local.steps_by_agent.bank=0: needs at least 1"),
    (["stray"], "unrecognized arguments: stray"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(w[0])[:30] for w in WRONG])
def test_a_wrong_word_is_named_with_its_remedy(tmp_path, words, message):
    with pytest.raises(SettingError, match=message):
        read(*words, out=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local: {lrr: 1}", "unknown setting local.lrr; did you mean local.lr?"),
        ("round: 1", "unknown setting round; did you mean rounds?"),
        ("local: {steps: many}", "local.steps='many': needs a whole number"),
        ("local: [", "--config: the file is not YAML"),
        ("rounds: 2\nrounds: 3", "'rounds' is there twice"),
        ("", "--config: the file holds nothing in place of settings such as 'rounds: 3'"),
        ("- a", "--config: the file holds - a in place of settings"),
    ],
)
def test_a_wrong_file_is_named_with_its_remedy(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(SettingError, match=message):
        read("--config", str(file), out=tmp_path)


def begun(tmp_path, name="mine", **settings):
    from llmagentos.recipes.run_folder import RunFolder

    folder = RunFolder(tmp_path / name)
    folder.claim(numbered=False)
    folder.begin(dump_settings(RunSettings(**settings)))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(b"seed: 1 # \xe9")
    with pytest.raises(SettingError, match="not UTF-8"):
        read("--config", str(file), out=tmp_path)


def test_two_starts_without_a_name_have_folders_of_their_own(tmp_path):
    from llmagentos.recipes.tuning import claimed

    first, second = (read(out=tmp_path) for _ in range(2))
    assert first.folder.path == second.folder.path
    with claimed(first) as one, claimed(second) as other:
        assert [one.folder.path.name, other.folder.path.name] == ["fedavg_lora", "fedavg_lora-2"]
        one.folder.begin("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["fedavg_lora"]


def test_a_start_that_was_cut_off_at_once_leaves_its_name_free(tmp_path):
    (tmp_path / "mine" / "journal").mkdir(parents=True)
    (tmp_path / "mine" / ".settings.yaml.abc.part").write_text("half")
    assert not read("--name", "mine", out=tmp_path).folder.taken
    (tmp_path / "mine" / "thesis.txt").write_text("somebody's")
    with pytest.raises(SettingError, match="mine exists"):
        read("--name", "mine", out=tmp_path)


def test_what_a_killed_writer_left_is_gone_when_the_run_goes_on(tmp_path):
    begun(tmp_path)
    before = set((tmp_path / "mine").iterdir())
    (tmp_path / "mine" / ".0123456789abcdef.part").write_text("half of the metrics")
    begun(tmp_path)
    assert set((tmp_path / "mine").iterdir()) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is not a folder that you may write to"):
        read(out=tmp_path / "file")


def test_a_run_whose_name_looks_like_a_pattern_is_resumed(tmp_path):
    begun(tmp_path, "x[1]", seed=5)
    assert read("--name", "x[1]", "--resume", out=tmp_path).settings.seed == 5


def test_a_taken_name_needs_resume(tmp_path):
    begun(tmp_path)
    with pytest.raises(SettingError, match="mine exists; add --resume or name another"):
        read("--name", "mine", out=tmp_path)
    assert read("--name", "mine", "--resume", out=tmp_path).resume


def test_runs_without_a_name_are_numbered_and_the_last_is_resumed(tmp_path):
    begun(tmp_path, "fedavg_lora")
    begun(tmp_path, "fedavg_lora-2", seed=5)
    assert read(out=tmp_path).folder.path.name == "fedavg_lora-3"
    resumed = read("--resume", out=tmp_path)
    assert (resumed.folder.path.name, resumed.settings.seed) == ("fedavg_lora-2", 5)


def test_a_resumed_run_may_only_get_more_rounds(tmp_path):
    begun(tmp_path, rounds=3)
    assert read("--name", "mine", "--resume", "--rounds", "4", out=tmp_path).settings.rounds == 4
    with pytest.raises(SettingError, match="rounds=2: the run was given 3"):
        read("--name", "mine", "--resume", "--rounds", "2", out=tmp_path)
    with pytest.raises(SettingError, match=re.escape("local.lr=0.5: the run has 0.002")):
        read("--name", "mine", "--resume", "--local.lr", "0.5", out=tmp_path)
    with pytest.raises(SettingError, match=re.escape("lora.ranks={'city': 2}: the run has {}")):
        read("--name", "mine", "--resume", "--lora.ranks", "{city: 2}", out=tmp_path)


@pytest.mark.parametrize("ranks", ["{}", "{city: 4}", "{city: 2, bank: 2}"])
def test_a_resumed_run_keeps_what_is_single_agents_own(tmp_path, ranks):
    lora = LoraSettings(ranks={"city": 2})
    begun(tmp_path, lora=lora, aggregation="zero_pad")
    with pytest.raises(
        SettingError, match=r"lora\.ranks=.*: the run has {'city': 2}, and --resume"
    ):
        read("--name", "mine", "--resume", "--lora.ranks", ranks, out=tmp_path)
    assert read("--name", "mine", "--resume", out=tmp_path).settings.lora == lora


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path):
    with pytest.raises(SettingError, match="there is no run in"):
        read("--resume", out=tmp_path)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_settings_file_loads(file, tmp_path):
    assert (
        read("--config", str(file), out=tmp_path).settings != RunSettings() or file.stem == "fedavg"
    )


def test_help_and_setting_errors_need_no_torch():
    code = (
        "import sys\nfrom llmagentos.recipes.fedavg_lora import RECIPE, main\n"
        "assert main(RECIPE, ['--local.lrr', '1']) == 2\n"
        "try:\n    main(RECIPE, ['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "error: unknown setting local.lrr; did you mean local.lr?\n"
    for word in ("--local.mu", "--init_adapter", "--resume", "--dry-run", "FedProx's mu"):
        assert word in done.stdout
