"""A disk without room, at the coordinator and at an agent: said in words, and nothing is lost."""

import multiprocessing
import os
import resource
import subprocess
import threading
from contextlib import contextmanager
from random import Random

import pytest

from llmagentos.errors import DiskFull
from llmagentos.federation import run
from llmagentos.identity import open_sealed
from llmagentos.journal import Records
from llmagentos.journal.store import Store
from llmagentos.memory import AgentMemory
from llmagentos.messages import Failure, decode
from tests.coded import federation
from tests.crashing import exit_code_of, tune
from tests.test_agent import Asked
from tests.test_journal import final_bits
from tests.test_recipe import bits, metrics, words_for

FORK = multiprocessing.get_context("fork")

PLACES = {
    "an update": (Store, "put"),
    "a state": (Store, "put_written"),
    "the database": (Records, "execute"),
    "an agent's memory": (AgentMemory, "keep"),
}

AGENT_PLACES = {
    "an answer": (Store, "put"),
    "its database": (Records, "execute"),
    "its memory": (AgentMemory, "keep"),
}


def room(size=resource.RLIM_INFINITY):
    """No file of this process may grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill_before(kind, name, number):
    """There is no room left from the call of that number on."""
    work, left = getattr(kind, name), [number]

    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] == -1:
            room(0)
        return work(*args, **kwargs)

    setattr(kind, name, counted)


def play(folder, place=None, number=0, told=None):
    """Three rounds, in a process of its own that says into a pipe where it found no room."""
    if place is not None:
        fill_before(*PLACES[place], number)
    try:
        parts = federation(folder, "int8")
        for _ in run(parts):
            parts.journal.forget(updates=True)
    except DiskFull as error:
        told.send(str(error))
        os._exit(1)
    parts.journal.close()


def played(folder, *full):
    """The exit code of a play, and what it said."""
    heard, told = FORK.Pipe(duplex=False)
    process = FORK.Process(target=play, args=(folder, *full), kwargs={"told": told} if full else {})
    process.start()
    process.join()
    return process.exitcode, heard.recv() if heard.poll() else ""


@pytest.mark.parametrize("place", PLACES)
def test_a_run_whose_disk_is_full_at_any_moment_says_so_and_goes_on_when_there_is_room(
    tmp_path, place, fault_seed, tried
):
    assert played(tmp_path / "undisturbed") == (0, "")
    expected = final_bits(tmp_path / "undisturbed")
    number, code = Random(fault_seed).randrange(3), 1
    while code:
        folder = tmp_path / f"at{number}"
        code, said = played(folder, place, number)
        if code:
            assert code == 1
            assert f"{folder}/" in said or f"{folder}:" in said
            assert said.endswith("; make room there")
            tried[f"disk full: {place}"] += 1
        assert played(folder) == (0, "")
        assert final_bits(folder) == expected
        number += 1 + number // 3
    assert number > 3


def serve(organisations, folder, bodies, full):
    """Answer the bodies; a second time, with room, those that found none. What was said is last."""
    organisations.folder = folder
    desk = organisations.open_desk("north")
    if full is not None:
        fill_before(*full)
    answers, first = [], []
    for body in bodies:
        first.append(desk.answer(body))
        room()
        answers.append(desk.answer(body))
    (folder / "answers").write_text("\n".join(part.hex() for part in (*answers, *first)))


def served(organisations, folder, bodies, full=None):
    """The answers of an agent in a process of its own, and those that it gave first."""
    process = FORK.Process(target=serve, args=(organisations, folder, bodies, full))
    process.start()
    process.join()
    assert process.exitcode == 0
    lines = [bytes.fromhex(line) for line in (folder / "answers").read_text().split("\n")]
    return lines[: len(bodies)], lines[len(bodies) :]


@pytest.mark.parametrize("place", AGENT_PLACES)
def test_an_agent_whose_disk_is_full_says_so_signed_and_answers_when_there_is_room(
    tmp_path, place, fault_seed, tried
):
    north = Asked(tmp_path / "keys")
    own = north.organisations.coordinator.public_key()
    theirs = north.organisations.keys["north"].public_key()
    lossy = north.told(codec={"name": "top_k", "top_k": 0.1})
    rounds = [{"round": 1}, {"round": 2, "receipt": 1}, {"round": 3, "receipt": 2}]
    bodies = [north.sealed(**lossy, **changes) for changes in rounds]
    expected, calm = served(north.organisations, tmp_path / "calm", bodies)
    assert calm == expected
    found = 0
    for number in range(Random(fault_seed).randrange(2), 16):
        full = (*AGENT_PLACES[place], number)
        answers, first = served(north.organisations, tmp_path / f"at{number}", bodies, full)
        assert answers == expected
        refused = [body for body, right in zip(first, expected, strict=True) if body != right]
        found += len(refused)
        for body in refused:
            failure = decode(bytes(open_sealed(body, theirs, own, 1 << 24).payload))
            assert isinstance(failure, Failure)
            assert str(tmp_path / f"at{number}") in failure.reason
            assert failure.reason.endswith("; make room there")
            tried[f"disk full at an agent: {place}"] += 1
    assert found > 1


def starved_tune(words, place, number):
    fill_before(*PLACES[place], number)
    tune(words)


def said_by(work, *args, folder):
    """The exit code of work in a process of its own, and what it printed; no file is written."""
    pipe, printed = folder / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: printed.append(pipe.read_text()))
    reader.start()
    code = exit_code_of(work, *args, told=str(pipe))
    reader.join()
    pipe.unlink()
    return code, printed[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert exit_code_of(tune, words_for(out)) == 0
    return out / "run"


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("a state", 1),
        pytest.param("a state", 0, marks=pytest.mark.slow),
        pytest.param("an update", 6, marks=pytest.mark.slow),
    ],
)
def test_a_program_whose_disk_is_full_says_what_to_do_and_resumes_to_the_same_bits(
    undisturbed, tmp_path, place, number, tried
):
    code, said = said_by(starved_tune, words_for(tmp_path), place, number, folder=tmp_path)
    assert code == 1
    assert "Traceback" not in said
    assert f"error: {tmp_path / 'run' / 'journal'}" in said
    assert "File too large; make room there" in said
    begun = "--resume" in said
    assert begun == (tmp_path / "run" / "settings.yaml").exists()
    assert exit_code_of(tune, words_for(tmp_path, "--resume")) == 0
    assert bits(tmp_path / "run") == bits(undisturbed)
    assert metrics(tmp_path / "run") == metrics(undisturbed)
    tried[f"disk full under a program: {place}"] += 1


@contextmanager
def small_disk(folder, size):
    """A file system in memory with room for so many bytes; skipped where that is forbidden."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_program_on_a_disk_that_is_really_full_resumes_to_the_same_bits(
    undisturbed, tmp_path, tried
):
    out = tmp_path / "disk"
    with small_disk(out, 400 << 10):
        code, said = said_by(tune, words_for(out), folder=tmp_path)
        assert code == 1
        assert "Traceback" not in said
        assert "make room there" in said
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        assert exit_code_of(tune, words_for(out, "--resume")) == 0
        assert bits(out / "run") == bits(undisturbed)
        assert metrics(out / "run") == metrics(undisturbed)
    tried["a file system that is full"] += 1
