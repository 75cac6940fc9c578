"""Checks shared by the settings; every message names setting, value and remedy."""

from importlib.util import find_spec
from typing import Any

from llmagentos.errors import SettingError


def require(holds: bool, name: str, value: Any, remedy: str) -> None:
    """Raise ``SettingError`` that names the setting, its value and the remedy unless it holds."""
    if not holds:
        raise SettingError(f"{name}={value!r}: {remedy}")


MOST_THREADS = 1024


def check_threads(threads: int | None) -> None:
    """Raise ``SettingError`` for a number of threads that torch has no use for, or dies of."""
    good = threads is None or 1 <= threads <= MOST_THREADS
    require(good, "threads", threads, f"needs to lie in [1, {MOST_THREADS}]")


def require_package(module: str, name: str, value: Any, extra: str) -> None:
    """Raise ``SettingError`` unless the module that a setting needs is installed."""
    remedy = f"{module} is not installed; run pip install 'llmagentos[{extra}]'"
    require(find_spec(module) is not None, name, value, remedy)
