"""Accelerate's experiment trackers: TensorBoard, MLflow, Weights & Biases."""

from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from llmagentos.errors import SettingError
from llmagentos.recipes.command import flat_settings
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.round_report import RoundReport
from llmagentos.settings import RunSettings


def check_trackers(names: list[str]) -> None:
    """Raise ``SettingError`` for a tracker that is unknown or not installed."""
    available = {str(tracker) for tracker in get_available_trackers()}
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    for name in names:
        if name not in known:
            raise SettingError(f"trackers={name!r}: unknown; known are {', '.join(known)}")
        if name not in available:
            raise SettingError(f"trackers={name!r}: not installed; run pip install {name}")


class Trackers:
    """The trackers that ``trackers`` names; the numbers of every round go to each."""

    def __init__(self, settings: RunSettings, folder: RunFolder) -> None:
        check_trackers(settings.trackers)
        self._trackers = [_start(name, folder, settings) for name in settings.trackers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in self._trackers:
            tracker.finish()

    def log(self, report: RoundReport) -> None:
        """Pass on a closed round's numbers."""
        for tracker in self._trackers:
            tracker.log(numbers(report), step=report.round)


def numbers(report: RoundReport) -> dict[str, float]:
    """A report as flat names and numbers: ``loss``, ``agents/north``, ``norms/north`` ..."""
    flat: dict[str, float] = {}
    for name, value in asdict(report).items():
        inner = value.items() if isinstance(value, dict) else ()
        flat |= {f"{name}/{key}": x for key, x in inner if isinstance(x, int | float)}
        flat |= {name: value} if isinstance(value, int | float) else {}
    return flat


def _start(name: str, folder: RunFolder, settings: RunSettings) -> Any:
    kind = LOGGER_TYPE_TO_CLASS[name]
    place = {"logging_dir": folder.path / "trackers"} if kind.requires_logging_directory else {}
    tracker = kind(folder.path.name, **place)
    tracker.start()
    tracker.store_init_configuration({k: str(v) for k, v in flat_settings(settings).items()})
    return tracker
