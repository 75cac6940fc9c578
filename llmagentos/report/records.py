"""What a run's folder says about the run."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from llmagentos.errors import JournalError, SettingError

Course = NDArray[np.float64]
"""One value a round, ``(rounds,)``; NaN where there is none."""


@dataclass(frozen=True)
class RunRecords:
    """The closed rounds of a run, its settings as text and, once it has ended, its summary."""

    name: str
    rounds: tuple[Mapping[str, Any], ...]
    summary: Mapping[str, Any] | None
    settings: str

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the closed rounds, ``(rounds,)``."""
        return np.array([record["round"] for record in self.rounds], np.int64)

    @cached_property
    def resolved(self) -> Mapping[str, Any]:
        """The settings, nested as in ``RunSettings``; empty where the folder has none."""
        return yaml.safe_load(self.settings) or {}

    @cached_property
    def roster(self) -> tuple[str, ...]:
        """Every agent that is named anywhere, in the order of its first mention."""
        names = dict.fromkeys((self.summary or {}).get("before", {}))
        for record in self.rounds:
            for key in ("agents", "weights", "train_loss", "norms", "refused"):
                names |= dict.fromkeys(record.get(key) or {})
        return tuple(names)

    def total(self, key: str) -> Course:
        """One number of every round, such as ``seconds``."""
        return np.array([_number(record.get(key)) for record in self.rounds], np.float64)

    def by_agent(self, key: str) -> dict[str, Course]:
        """One number of every round for every agent of the roster, such as ``norms``."""
        values = [record.get(key) or {} for record in self.rounds]
        return {
            agent: np.array([_number(value.get(agent)) for value in values], np.float64)
            for agent in self.roster
        }


def read_run(folder: Path) -> RunRecords:
    """The records of a run folder; a run that still goes on has no summary.

    A last line of ``metrics.jsonl`` that is being written is left out.
    Raises ``SettingError`` when the folder is not a run's, ``JournalError`` when a file is damaged.
    """
    metrics, settings = folder / "metrics.jsonl", folder / "settings.yaml"
    if not metrics.exists() and not settings.exists():
        raise SettingError(
            f"folder={str(folder)!r}: holds neither metrics.jsonl nor settings.yaml; "
            "name the folder of a run"
        )
    return RunRecords(
        name=folder.resolve().name,
        rounds=tuple(_read_rounds(metrics)) if metrics.exists() else (),
        summary=_read_summary(folder / "summary.json"),
        settings=settings.read_text("utf-8") if settings.exists() else "",
    )


def _read_rounds(path: Path) -> list[Mapping[str, Any]]:
    lines = path.read_text("utf-8").splitlines()
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise JournalError(
                    f"{path}, line {number}: {error}; resume the run to rebuild it"
                ) from error
    return records


def _read_summary(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    try:
        summary: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise JournalError(f"{path}: {error}; resume the run to rebuild it") from error
    return summary


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
