"""What an engine needs that not everybody installs, looked for before any long work."""

import os
from importlib.util import find_spec

from llmagentos.errors import SettingError

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
        if find_spec(module) is None:
            raise SettingError(
                f"engine={engine!r}: {module} is not installed; "
                f"run pip install 'llmagentos[{EXTRAS[engine]}]'"
            )
    if engine != "in_process" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError(f"engine={engine!r}: start one process; agents have their own")
