"""Processes that end at a chosen write, forked from one that has imported torch already."""

import multiprocessing
import os
import signal
from pathlib import Path

from llmagentos.agent import AgentJournal
from llmagentos.journal import Journal

SERVER = multiprocessing.get_context("forkserver")
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
    for journal in (Journal, AgentJournal):
        journal._execute = counted(journal._execute)


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
