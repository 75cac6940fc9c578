"""Bytes handed from one process to another on the same machine, as whole files of a folder."""

import hashlib
from pathlib import Path

from llmagentos.files import room_in

FOLDER = "LLMAGENTOS_RELAY"
"""Names a relay's folder in the environment of Flower's processes."""


class Tray:
    """Names to bytes; what is there is whole, whichever process died meanwhile.

    Nothing is synced: what a power cut takes is asked for again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, name: str, body: bytes) -> None:
        """``body`` lies under ``name``."""
        part = self.folder / f".{name}.part"
        with room_in(self.folder):
            part.write_bytes(body)
        part.replace(self.folder / name)

    def names(self) -> list[str]:
        """What lies there, in the order of the names."""
        return sorted(path.name for path in self.folder.iterdir() if path.name[0] != ".")

    def read(self, name: str) -> bytes:
        """The bytes under a name; ``FileNotFoundError`` when they were dropped."""
        return (self.folder / name).read_bytes()

    def drop(self, name: str) -> None:
        """Nothing lies under the name."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Nothing lies there."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)


def short_name(agent: str) -> str:
    """A short name for files and Flower that no other agent has."""
    return hashlib.sha256(agent.encode()).hexdigest()[:16]
