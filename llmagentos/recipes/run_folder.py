"""The folder of one run: ``<out>/<name>/``."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmagentos.errors import SettingError
from llmagentos.files import write_durably


class RunFolder:
    """Where a run keeps its settings, metrics, journal, adapters and report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.yaml"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.journal = path / "journal"
        self.adapter = path / "adapter"
        self.best = path / "best"
        self.report = path / "report.html"

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return self.settings.is_file()

    def begin(self, settings: str) -> None:
        """Create the folder with its resolved settings, which then stay as they are."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_durably(self.settings, settings.encode())
        except OSError as error:
            raise SettingError(
                f"--out={str(self.path.parent)!r}: {error.strerror}; name a folder to write to"
            ) from error

    def write_metrics(self, reports: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object a line for every closed round."""
        write_durably(self.metrics, "".join(json.dumps(r) + "\n" for r in reports).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """What the run came to, for people and the report."""
        write_durably(self.summary, (json.dumps(summary, indent=2) + "\n").encode())


def run_folder(out: Path, name: str | None, recipe: str, *, resume: bool) -> RunFolder:
    """The folder of a new run, or of the one to be resumed.

    Without a name, a new run takes the recipe's, numbered from the second on; a resumed one
    is the latest of them. Raises ``SettingError`` when a name is taken, or there is no such run.
    """
    if name is None:
        name = _latest(out, recipe) if resume else _free(out, recipe)
    folder = RunFolder(out / name)
    if resume and not folder.begun:
        raise SettingError(f"--resume: there is no run in {folder.path}; leave --resume out")
    if not resume and folder.path.exists():
        raise SettingError(f"--name={name!r}: {folder.path} exists; add --resume or name another")
    return folder


def _free(out: Path, recipe: str) -> str:
    number = 1
    while (out / _numbered(recipe, number)).exists():
        number += 1
    return _numbered(recipe, number)


def _latest(out: Path, recipe: str) -> str:
    number = 1
    while (out / _numbered(recipe, number + 1)).exists():
        number += 1
    return _numbered(recipe, number)


def _numbered(recipe: str, number: int) -> str:
    return recipe if number == 1 else f"{recipe}-{number}"
