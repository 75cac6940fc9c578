"""Files named by the hash of what they hold."""

import hashlib
import mmap
from collections.abc import Collection
from pathlib import Path

from llmagentos.errors import JournalError
from llmagentos.files import write_durably


class Store:
    """A folder of ``cas/<sha256>`` files: written once, never changed, mapped to be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, body: bytes) -> str:
        """The hash under which ``body`` is on the disk."""
        name = hashlib.sha256(body).hexdigest()
        path = self.folder / name
        if not path.exists():
            write_durably(path, body)
        return name

    def map(self, name: str) -> memoryview:
        """The file as read-only mapped memory; pages are read when they are used."""
        try:
            with (self.folder / name).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise JournalError(f"{self.folder / name} cannot be read: {error}") from error

    def keep(self, names: Collection[str]) -> None:
        """Delete everything else, half-written files included."""
        for path in self.folder.iterdir():
            if path.name not in names:
                path.unlink()
