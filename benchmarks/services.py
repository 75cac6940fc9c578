"""Programs that are kept running, and one time-stamped story of what they say."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

RESTART_S = 3.0
"""A service that has ended is started again after this long."""

READ_S = 0.1
COLOURS = re.compile(r"\x1b\[\d*m|\[9\dm|\[0m")


@dataclass(frozen=True)
class Line:
    """What somebody said, and when it was read."""

    when: datetime
    who: str
    text: str


@dataclass
class Story:
    """The lines of several growing files, each read within a tenth of a second of its writing."""

    lines: list[Line] = field(default_factory=list)
    _files: dict[Path, tuple[str, int]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def tell(self, who: str, text: str) -> None:
        """Add a line."""
        self.lines.append(Line(datetime.now(UTC), who, text))

    def follow(self, who: str, path: Path) -> None:
        """Add what is written to a file from its beginning, also if it is not there yet."""
        self._files[path] = who, 0

    def _read(self) -> None:
        for path, (who, start) in list(self._files.items()):
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(start)
                whole, newline, _ = file.read().rpartition(b"\n")
            for line in whole.decode(errors="replace").splitlines():
                self.tell(who, COLOURS.sub("", line).rstrip())
            self._files[path] = who, start + len(whole) + len(newline)

    def _go_on(self) -> None:
        while not self._over.wait(READ_S):
            self._read()
        self._read()

    def __enter__(self) -> Self:
        self._reader = threading.Thread(target=self._go_on)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._reader.join()


class Service:
    """A program that is started again when a signal has ended it, as a service manager does."""

    def __init__(self, name: str, words: Iterable[str], folder: Path, story: Story) -> None:
        self.name, self.words, self.folder, self.story = name, list(words), folder, story
        self.log = folder / f"{name}.log"
        story.follow(name, self.log)
        self._ended = 0.0
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as told:
            self.running = subprocess.Popen(
                self.words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def over(self) -> bool:
        """Whether it has ended by itself; ``RuntimeError`` where it failed."""
        code = self.running.poll()
        if code is not None and code > 0:
            raise RuntimeError(f"{self.name} ended with {code}; see {self.log}")
        return code == 0

    def tend(self) -> None:
        """Start it again if it was killed a while ago."""
        if self.running.poll() in (None, 0) or self.over:
            return
        self._ended = self._ended or time.monotonic()
        if time.monotonic() - self._ended > RESTART_S:
            self.story.tell("services", f"{self.name} is started again")
            self._ended = 0.0
            self._start()

    def end(self) -> None:
        """Neither it nor what it has started is left."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.running.pid, number)
                self.running.wait(timeout=20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def facts(path: Path) -> list[dict[str, object]]:
    """The objects of a file that has one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]
