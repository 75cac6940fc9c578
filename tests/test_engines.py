"""Wherever agents train: the same seed gives the same bits."""

import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from llmagentos.errors import SettingError
from llmagentos.recipes.extras import MODULES, check_engine

WORDS = [
    "--config", "smoke", "--threads", "1", "--trainer", "single", "--local.steps", "2",
    "--corpus.partition.groups", "[hospital, bank]", "--codec.name", "int8",
]  # fmt: skip


def program(folder, engine, *more):
    words = ["--out", str(folder), "--name", engine, "--engine", engine, *more]
    return [sys.executable, "-m", "llmagentos.recipes.fedavg_lora", *WORDS, *words]


def told(folder, engine, *more):
    """What a run prints, in a process of its own."""
    words = program(folder, engine, *more)
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def published(folder, engine):
    """The adapter that a run has left."""
    return (folder / engine / "adapter" / "adapter_model.safetensors").read_bytes()


def tune(folder, engine, *more):
    """The published adapter of a run."""
    told(folder, engine, *more)
    return published(folder, engine)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tune(tmp_path_factory.mktemp("plain"), "in_process")


@pytest.mark.parametrize("engine", ["processes", "ray", "flower"])
def test_every_engine_gives_the_same_bits_and_shows_no_key(tmp_path, engine, plain):
    for module in MODULES[engine]:
        pytest.importorskip(module)
    shown = b"".join(watched(program(tmp_path, engine), tmp_path / "told"))
    assert published(tmp_path, engine) == plain
    keys = {path: path.read_bytes() for path in tmp_path.rglob("*.key")}
    assert len(keys) >= 3, "those of the coordinator and of its two agents"
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p not in keys}
    assert any(path.suffix in {".jsonl", ".log"} for path in files)
    for line in {line for key in keys.values() for line in key.splitlines()[1:-1]}:
        assert line not in shown
        assert not [path for path, body in files.items() if line in body]


def watched(words, told):
    """What anybody on the machine can read of a run's processes: command lines, environments."""
    seen = set()
    with told.open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as running:
        while running.poll() is None:
            for process in psutil.Process(running.pid).children(recursive=True):
                with suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()).encode())
                    seen.add(str(process.environ()).encode())
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
    assert running.returncode == 0, told.read_text()[-3000:]
    assert len(seen) > 1
    return seen


@pytest.mark.parametrize("engine", ["processes", pytest.param("flower", marks=pytest.mark.slow)])
def test_a_coordinator_that_is_killed_goes_on_with_its_agents(tmp_path, engine, plain):
    words = program(tmp_path, engine)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        for line in running.stdout:
            if line.startswith(b"round 1/2"):
                running.kill()
    assert running.returncode == -signal.SIGKILL
    lines = told(tmp_path, engine, "--resume")
    assert f"starting 2 agents on engine {engine}" in lines
    assert "resumed in round 2; answers to it in the journal: " in lines
    assert published(tmp_path, engine) == plain


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(MODULES, "ray", ("no_such_package",))
    remedy = r"engine='ray': no_such_package is not installed; run pip install 'llmagentos\[ray\]'"
    with pytest.raises(SettingError, match=remedy):
        check_engine("ray")


def test_agents_apart_and_a_launcher_do_not_mix(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_engine("in_process")
    with pytest.raises(SettingError, match="start one process"):
        check_engine("processes")
