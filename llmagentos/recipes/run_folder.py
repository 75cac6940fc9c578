"""The folder of one run: ``<out>/<name>/``."""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmagentos.errors import SettingError
from llmagentos.files import write_durably
from llmagentos.settings.checks import require

log = logging.getLogger(__name__)


class RunFolder:
    """Where a run keeps its settings, metrics, journal, adapters, report, and what agents keep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.yaml"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.journal = path / "journal"
        self.agents = path / "agents"
        self.personal = path / "personal"
        self.engine = path / "engine"
        self.adapter = path / "adapter"
        self.best = path / "best"
        self.log = path / "log.jsonl"

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return self.settings.is_file()

    @property
    def taken(self) -> bool:
        """Whether there is more here than a start that was cut off at once may leave."""
        found = self.path.iterdir() if self.path.is_dir() else ()
        left = (path.name for path in found if not path.name.startswith("."))
        return bool(set(left) - {self.journal.name}) or self.path.is_file()

    def claim(self, *, numbered: bool) -> "RunFolder":
        """The folder, which is there; a ``numbered`` one is the next where another run took it.

        Raises ``SettingError`` where it cannot be there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=not numbered)
        except FileExistsError:
            if not numbered:
                raise _unwritable(self.path, "it is no folder") from None
            recipe = re.sub(r"-\d+$", "", self.path.name)
            name = _name(self.path.parent, recipe, next_=True)
            return RunFolder(self.path.parent / name).claim(numbered=True)
        except OSError as error:
            raise _unwritable(self.path, error.strerror or "") from error
        return self

    def release(self) -> None:
        """Nothing is left of a folder that nothing has come into."""
        with suppress(OSError):
            self.path.rmdir()

    def check(self) -> None:
        """Raise ``SettingError`` where the folder could not be made; nothing is written."""
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise _unwritable(self.path, f"{there} is not a folder that you may write to")

    def begin(self, settings: str) -> None:
        """Write the resolved settings, with which the run has begun.

        What a killed writer of this run has left half-written is removed.
        """
        for left in self.path.glob(".*.part"):
            if left.is_file():
                left.unlink()
        write_durably(self.settings, settings.encode())

    def write_metrics(self, reports: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object a line for every closed round."""
        write_durably(self.metrics, "".join(json.dumps(r) + "\n" for r in reports).encode())

    def comparison(self, rounds: int) -> dict[str, Any] | None:
        """What a finished run of so many rounds was compared with, where it was."""
        if not self.summary.is_file():
            return None
        try:
            summary = json.loads(self.summary.read_text())
            compared: dict[str, Any] | None = summary["compare"]
            return compared if summary["rounds"] == rounds else None
        except (ValueError, TypeError, KeyError):
            log.warning("%s is damaged and written anew, without a comparison", self.summary)
            return None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """What the run came to, for people and the report."""
        write_durably(self.summary, (json.dumps(summary, indent=2) + "\n").encode())


def _unwritable(path: Path, reason: str) -> SettingError:
    return SettingError(f"--out={str(path.parent)!r}: {reason}; name a folder to write to")


def run_folder(out: Path, name: str | None, recipe: str, *, resume: bool) -> RunFolder:
    """The folder of a new run, or of the one to be resumed.

    Without a name, a new run takes the recipe's, numbered from the second on; a resumed one
    is the latest of them. Raises ``SettingError`` when a name is taken, there is no such run, or
    nothing can be written there.
    """
    if name is None:
        name = _name(out, recipe, next_=not resume)
    one = bool(name.strip(". ")) and name == Path(name).name
    require(one, "--name", name, "needs to be the name of one folder; --out says where it is")
    folder = RunFolder(out / name)
    folder.check()
    if resume and not folder.begun:
        raise SettingError(f"--resume: there is no run in {folder.path}; leave --resume out")
    if not resume and folder.taken:
        raise name_taken(folder)
    return folder


def name_taken(folder: RunFolder) -> SettingError:
    """The refusal of a name that another run has."""
    path = folder.path
    return SettingError(f"--name={path.name!r}: {path} exists; add --resume or name another")


def _name(out: Path, recipe: str, *, next_: bool) -> str:
    """The recipe's name, numbered from the second run on: the last one there is, or the next."""
    pattern = re.compile(rf"{re.escape(recipe)}(?:-(\d+))?")
    found = [pattern.fullmatch(path.name) for path in out.iterdir()] if out.is_dir() else []
    last = max((int(match[1] or 1) for match in found if match), default=0)
    number = last + 1 if next_ else max(last, 1)
    return recipe if number == 1 else f"{recipe}-{number}"
