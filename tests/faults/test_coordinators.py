"""Two coordinators on one journal: one goes on undisturbed, the other says why it does not."""

import multiprocessing
import os
import signal
import subprocess

import pytest

from llmagentos.errors import JournalError
from llmagentos.federation import run
from llmagentos.journal import Journal
from tests.quadratics import federation
from tests.test_engines import program, tune
from tests.test_journal import final_bits, play

FORK = multiprocessing.get_context("fork")
RIVALS = 6


def compete(folder, start, refused, told):
    """Play the run once all others have been refused; or be refused."""
    start.wait()
    try:
        with Journal(folder):
            for _ in range(RIVALS - 1):
                assert refused.acquire(timeout=60)
        told.put("won")
    except JournalError as error:
        refused.release()
        told.put(str(error))


def test_of_many_coordinators_that_start_at_once_one_wins_and_the_others_say_so(tmp_path, tried):
    play(tmp_path / "undisturbed")
    folder = tmp_path / "run"
    parts = federation(folder)
    next(run(parts))
    parts.journal.close()
    before = final_bits(folder)
    for _ in range(5):
        told, start, refused = FORK.Queue(), FORK.Event(), FORK.Semaphore(0)
        rivals = [
            FORK.Process(target=compete, args=(folder, start, refused, told)) for _ in range(RIVALS)
        ]
        for rival in rivals:
            rival.start()
        start.set()
        said = sorted(told.get(timeout=60) for _ in rivals)
        for rival in rivals:
            rival.join()
        loser = f"{folder} is in use by another process; wait for it"
        assert said == [loser] * (RIVALS - 1) + ["won"]
        tried["a second coordinator"] += RIVALS - 1
    assert final_bits(folder) == before


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tune(tmp_path_factory.mktemp("plain"), "in_process")


def tree(folder):
    """What lies in a folder, with the time of its last change."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("engine", ["in_process", pytest.param("flower", marks=pytest.mark.slow)])
def test_a_second_program_on_a_run_that_goes_on_touches_nothing(tmp_path, engine, plain, tried):
    if engine == "flower":
        pytest.importorskip("flwr")
    words = program(tmp_path, engine)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        for line in first.stdout:
            if line.startswith(b"round 1/2"):
                break
        os.kill(first.pid, signal.SIGSTOP)
        before = tree(tmp_path / engine / "journal")
        resumed = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
        anew = subprocess.run(words, capture_output=True, text=True, check=False)
        assert tree(tmp_path / engine / "journal") == before
        os.kill(first.pid, signal.SIGCONT)
        first.stdout.read()
    assert resumed.returncode == 1
    journal = tmp_path / engine / "journal"
    assert f"error: {journal} is in use by another process; wait for it." in resumed.stderr
    assert anew.returncode == 2
    assert "exists; add --resume or name another" in anew.stderr
    assert first.returncode == 0
    adapter = tmp_path / engine / "adapter" / "adapter_model.safetensors"
    assert adapter.read_bytes() == plain
    tried[f"a second program on a run over {engine}"] += 2
