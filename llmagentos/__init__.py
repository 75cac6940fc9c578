"""Organisations fine-tune one language model together; their text never leaves the house.

The names below are found when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmagentos.adapter import Adapter
    from llmagentos.agent import Limits
    from llmagentos.api import FederatedLearning
    from llmagentos.corpus.example import Example
    from llmagentos.corpus.scrub import scrub
    from llmagentos.errors import (
        CorpusError,
        Damaged,
        DiskFull,
        DivergedError,
        JournalError,
        LLMAgentOSError,
        ModelError,
        QuorumError,
        Refused,
        SettingError,
    )
    from llmagentos.layout import Layout
    from llmagentos.recipes.serving import Organisation, serve
    from llmagentos.round_report import RoundReport
    from llmagentos.settings import RunSettings, ServerSettings

__version__ = version("llmagentos")

__all__ = [
    "Adapter",
    "CorpusError",
    "Damaged",
    "DiskFull",
    "DivergedError",
    "Example",
    "FederatedLearning",
    "JournalError",
    "LLMAgentOSError",
    "Layout",
    "Limits",
    "ModelError",
    "Organisation",
    "QuorumError",
    "Refused",
    "RoundReport",
    "RunSettings",
    "ServerSettings",
    "SettingError",
    "__version__",
    "scrub",
    "serve",
]

_HOMES = {
    "Adapter": "llmagentos.adapter",
    "Layout": "llmagentos.layout",
    "Example": "llmagentos.corpus.example",
    "FederatedLearning": "llmagentos.api",
    "Limits": "llmagentos.agent",
    "Organisation": "llmagentos.recipes.serving",
    "RoundReport": "llmagentos.round_report",
    "RunSettings": "llmagentos.settings",
    "ServerSettings": "llmagentos.settings",
    "scrub": "llmagentos.corpus.scrub",
    "serve": "llmagentos.recipes.serving",
}
"""Modules of the public names; the others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "llmagentos.errors")), name)


def __dir__() -> list[str]:
    return __all__
