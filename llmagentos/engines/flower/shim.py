"""The app that a Flower run carries: a few lines that name what is installed at both ends."""

import io
import zipfile
from pathlib import Path

SHIM = """from llmagentos.engines.flower import client_relay, server_relay

client = client_relay.app
server = server_relay.app
"""

PROJECT = """[build-system]
requires = []
build-backend = "none"

[project]
name = "llmagentos-shim"
version = "1.0.0"
description = "Names the relays of the installed llmagentos"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "llmagentos"

[tool.flwr.app.components]
serverapp = "shim:server"
clientapp = "shim:client"
"""

FILES = {"shim.py": SHIM, "pyproject.toml": PROJECT}


def write_shim(folder: Path) -> None:
    """The app as ``flwr run`` wants it, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)


def check_shim(bundle: bytes) -> None:
    """Raise ``PermissionError`` unless a bundle holds these files and nothing that could run."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as files:
        names = [name for name in files.namelist() if not name.startswith(".info/")]
        alien = [
            name for name in names if name not in FILES or files.read(name).decode() != FILES[name]
        ]
    if alien:
        raise PermissionError(f"the run carries code of its own ({alien[0][:80]!r}); refused")
