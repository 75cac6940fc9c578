"""A program that runs as long as it is wanted, and no longer than the process that started it."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Protocol, Self

from llmagentos.errors import SettingError

log = logging.getLogger(__name__)

PAUSE_S = 3
"""A program that keeps ending is started this often."""

SUPEREXEC = "flower-superexec"
"""What starts Flower's apps, for the SuperLink and for a SuperNode."""

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Tended(Protocol):
    """What is started again when it has ended, until it is no longer wanted."""

    def tend(self) -> None:
        """Start it again if it has ended."""
        ...

    def end(self) -> None:
        """Nothing of it is left."""
        ...


class Program:
    """Starts a program, starts it again when it has ended, and ends it; ``log_file`` tells more.

    It, and each that it starts, has no more than ``memory_bytes`` of memory of its own.
    """

    def __init__(
        self,
        words: Sequence[str],
        log_file: Path,
        settings: Mapping[str, str],
        memory_bytes: float = inf,
    ) -> None:
        self.words = [installed(words[0]), *words[1:]]
        self.log_file = log_file
        self.settings = {**os.environ, **settings}
        self.memory_bytes = memory_bytes
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        with self.log_file.open("ab") as told:
            self.running = subprocess.Popen(  # noqa: S603
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                env=self.settings,
                start_new_session=True,
                preexec_fn=partial(_begin, self.memory_bytes),  # noqa: PLW1509
            )

    def tend(self) -> None:
        """Start it again if it has ended."""
        code = self.running.poll()
        if code is not None and time.monotonic() - self._started > PAUSE_S:
            name = Path(self.words[0]).name
            told = (name, code, self._last_line(), self.log_file)
            log.warning("%s ended with %d (%s), started again; see %s", *told)
            self._start()

    def _last_line(self) -> str:
        """The last thing that the program told."""
        lines = self.log_file.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")

    def end(self) -> None:
        """Neither the program nor what it has started is left."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.running.pid, number)
                self.running.wait(timeout=5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def installed(program: str) -> str:
    """The path of a program of this environment, or the one that is given.

    Raises ``SettingError`` where it is not there.
    """
    path = Path(sys.executable).parent / program
    if not path.exists():
        raise SettingError(
            f"{path} is not there; install flwr into the environment of this Python: "
            "pip install --ignore-installed --no-deps 'flwr>=1.41,<1.43'"
        )
    return str(path)


def _begin(memory_bytes: float) -> None:
    end_with_parent()
    if memory_bytes < inf:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))


def end_with_parent() -> None:
    """Linux kills this process when the one that started it is gone; see prctl(2)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
