"""Processes that end at a chosen write, forked from one that has imported torch already."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from llmagentos.federation import run
from llmagentos.journal import Journal, Records

FORK = multiprocessing.get_context("fork")
SERVER = multiprocessing.get_context("forkserver")
PATIENCE_S = 60
SERVER.set_forkserver_preload(["llmagentos.recipes.running", "tests.crashing"])


def arm(countdown, number=signal.SIGKILL):
    """Signal this process at its fsync, rename, deletion or database write of that number."""
    remaining = [countdown]

    def counted(work):
        def wrapped(*args, **kwargs):
            remaining[0] -= 1
            if remaining[0] == -1:
                os.kill(os.getpid(), number)
            return work(*args, **kwargs)

        return wrapped

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    Records.execute = counted(Records.execute)


def ended(work, *args) -> int:
    """How a fork of this process ends that does the work; negative is the signal that ended it."""
    process = FORK.Process(target=work, args=args)
    process.start()
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{work.__name__}{args} goes on for more than {PATIENCE_S} s")
    return process.exitcode


def armed(countdown, work, *args):
    """Do the work in a process that is killed at its write of that number."""
    arm(countdown)
    work(*args)


def kills_survived(folder, play, *args, stride):
    """How many kills, one at every ``stride``-th write, change nothing of what a play comes to.

    ``play(folder, *args)`` plays to the end from wherever it was, and returns what it came to.
    """
    expected = play(folder / "undisturbed", *args)
    kills, exitcode = 0, -signal.SIGKILL
    while exitcode != 0:
        killed = folder / f"after{kills}"
        exitcode = ended(armed, kills * stride, play, killed, *args)
        assert exitcode in (0, -signal.SIGKILL)
        assert play(killed, *args) == expected
        kills += exitcode != 0
    return kills


def final_bits(folder):
    """The last state in a journal, bit for bit, and the reports but for their seconds."""
    with Journal(folder) as journal:
        reports = [{**report, "seconds": 0} for report in journal.reports()]
        vectors = journal.state().vectors()
        return {name: vector.tobytes() for name, vector in vectors.items()}, reports


def tune(words, countdown=None, number=signal.SIGKILL):
    """The recipe's exit code, in this process."""
    from llmagentos.recipes.fedavg_lora import RECIPE, main

    # A job in the background starts with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if countdown is not None:
        arm(countdown, number)
    raise SystemExit(main(RECIPE, words))


def exit_code_of(work, *args, told=os.devnull):
    """How a process of its own ends that does the work; negative is the signal that ended it.

    What it prints goes to the file ``told``.
    """
    process = SERVER.Process(target=tell, args=(told, work, *args))
    process.start()
    process.join()
    return process.exitcode


def tell(told, work, *args):
    """Do the work with the standard streams in a file."""
    with Path(told).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        work(*args)


def interrupt(parts, point="close_round"):
    """Play a federation's run until its journal is to do this, which ends as by Ctrl-C."""

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, point, stop)
        with pytest.raises(KeyboardInterrupt):
            list(run(parts))
