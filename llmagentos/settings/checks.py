"""Range checks shared by the settings; every message names setting, value and remedy."""

from typing import Any

from llmagentos.errors import SettingError


def require(holds: bool, name: str, value: Any, remedy: str) -> None:
    """Raise ``SettingError`` that names the setting, its value and the remedy unless it holds."""
    if not holds:
        raise SettingError(f"{name}={value!r}: {remedy}")
