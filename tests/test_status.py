"""A run looked at while it goes on, and after it has died."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from rich.console import Console

from llmagentos.errors import JournalError, SettingError
from llmagentos.journal import Journal
from llmagentos.messages import Task
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.status import main, named_run
from llmagentos.report.progress import Asked, read_progress
from llmagentos.report.status import answer, status_tables
from tests.crashing import exit_code_of, tune
from tests.quadratics import first_state
from tests.test_recipe import words_for


def task_of(run, agent, state):
    return Task(run, 1, "fit", agent, {}, state.adapter.layout, 0)


@pytest.fixture
def journal(tmp_path):
    """An open first round: south was refused, and north is still to answer."""
    with Journal(tmp_path) as journal:
        state = first_state()
        run = journal.begin(state.adapter.layout, {}, lambda: state)
        tasks = [task_of(run, agent, state) for agent in ("north", "south")]
        journal.answers.ask(tasks)
        journal.answers.refuse(tasks[1], "3 values are not finite")
        yield journal


def shown(progress, now):
    console = Console(width=120)
    with console.capture() as captured:
        console.print(status_tables(progress, "run", 4, now))
    return captured.get()


def test_the_open_round_shows_who_is_waited_for_and_why_others_do_not_count(journal):
    progress = read_progress(journal.folder)
    told = shown(progress, progress.asked[0].since + 120)
    assert "run goes on: 0 of 4 rounds closed" in told
    assert "none for 2 min 0 s" in told
    assert "refused: 3 values are not finite" in told


def test_a_journal_that_nobody_holds_is_of_a_run_that_has_stopped(journal):
    assert read_progress(journal.folder).live
    journal.close()
    progress = read_progress(journal.folder)
    assert not progress.live
    assert "has stopped; resume it" in shown(progress, progress.asked[0].since)


def test_asking_again_does_not_change_since_when_one_waits(journal):
    before = read_progress(journal.folder).asked
    state = journal.state()
    journal.answers.ask([task_of(journal.run, "north", state)])
    assert read_progress(journal.folder).asked == before


def test_looking_does_not_keep_a_coordinator_from_its_journal(journal, tmp_path):
    journal.close()
    for _ in range(20):
        read_progress(tmp_path)
        Journal(tmp_path).close()


@pytest.mark.parametrize("live", [True, False])
def test_another_users_run_can_be_looked_at(journal, live):
    with TemporaryDirectory() as place:
        folder = Path(place) / "journal"
        shutil.copytree(journal.folder, folder)
        Path(place).chmod(0o755)
        if live:
            opened = Journal(folder)
        else:
            Journal(folder).close()
            opened = nullcontext()
        with opened, nobody_writes(folder):
            with pytest.raises(PermissionError):
                (folder / "lock").open("ab")
            progress = read_progress(folder)
    assert progress.live == live
    assert [asked.agent for asked in progress.asked] == ["north", "south"]


@contextmanager
def nobody_writes(folder):
    """The folder is read-only, and root reads it as another user, whom that keeps out."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_a_journal_without_its_lock_is_nobodys(journal, tmp_path):
    journal.close()
    (tmp_path / "lock").unlink()
    assert not read_progress(tmp_path).live


def test_an_answer_is_told_by_what_came_of_it():
    asked = {"kind": "fit", "agent": "north", "since": 100.0}
    assert answer(Asked(**asked, answered=True, refused=None), 130) == "answered"
    assert answer(Asked(**asked, answered=False, refused="late"), 130) == "refused: late"
    assert answer(Asked(**asked, answered=False, refused=None), 130) == "none for 30 s"


def test_a_killed_run_and_a_finished_one_tell_their_status(tmp_path, capsys):
    assert exit_code_of(tune, words_for(tmp_path), 60) == -signal.SIGKILL
    assert main(["run", "--out", str(tmp_path), "--json"]) == 0
    dead = json.loads(capsys.readouterr().out)
    assert not dead["live"]
    assert exit_code_of(tune, words_for(tmp_path, "--resume")) == 0
    assert main([str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "run is over: 2 of 2 rounds closed" in told
    assert told.count("answered") == 4


def test_a_damaged_file_of_a_run_is_told(tmp_path, capsys, caplog):
    assert exit_code_of(tune, words_for(tmp_path, "--rounds", "1")) == 0
    folder = RunFolder(tmp_path / "run")
    for damaged in ("", "[]", "{}"):
        folder.summary.write_text(damaged)
        assert folder.comparison(1) is None
    assert caplog.text.count("summary.json is damaged and written anew") == 3
    for damaged in ("", "[", "{}"):
        folder.settings.write_text(damaged)
        assert main([str(tmp_path / "run")]) == 2
        assert "its settings.yaml is damaged" in capsys.readouterr().err
    assert main(["run", "--out", str(tmp_path), "--json", "--watch", "1"]) == 2
    assert "watch=1.0: --json prints once" in capsys.readouterr().err


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(SettingError, match="holds no run"):
        named_run(None, tmp_path)
    with pytest.raises(SettingError, match=r"no run; in .* there are"):
        named_run("nothing", tmp_path)
    with pytest.raises(JournalError, match="not begun"):
        read_progress(tmp_path)
    Journal(tmp_path).close()
    with pytest.raises(JournalError, match="not begun"):
        read_progress(tmp_path)
    (tmp_path / "journal.sqlite").write_bytes(np.arange(99).tobytes())
    with pytest.raises(JournalError, match="cannot be read"):
        read_progress(tmp_path)


def test_one_door_leads_to_every_program():
    from llmagentos.__main__ import PROGRAMS

    def ends(*words):
        command = [sys.executable, "-m", "llmagentos", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert ends("stats")[0] == 2
    assert "did you mean status?" in ends("stats")[1]
    assert all(name in ends()[1] for name in PROGRAMS)
    assert ends("--version") == (0, f"llmagentos {version('llmagentos')}\n")
    code, told = ends("fedavg-lora", "--help")
    assert code == 0
    assert "--rounds" in told
