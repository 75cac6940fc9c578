"""What settings need that not everybody installs, looked for before any long work."""

import os

from llmagentos.errors import SettingError
from llmagentos.settings import ModelSettings
from llmagentos.settings.checks import require_package

MODULES = {
    "in_process": (),
    "processes": ("cryptography",),
    "ray": ("cryptography", "ray"),
    "flower": ("cryptography", "flwr"),
}
EXTRAS = {"processes": "agents", "ray": "ray", "flower": "flower"}


def check_engine(engine: str) -> None:
    """Raise ``SettingError`` where packages are missing, or a launcher has started several."""
    for module in MODULES[engine]:
        require_package(module, "engine", engine, EXTRAS[engine])
    if engine != "in_process" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError(f"engine={engine!r}: start one process; agents have their own")


def check_model(model: ModelSettings) -> None:
    """Raise ``SettingError`` where the base is to be quantized and bitsandbytes is missing."""
    if model.quantize != "none":
        require_package("bitsandbytes", "model.quantize", model.quantize, "quantized")
