"""Files named by the hash of what they hold."""

import errno
import hashlib
import mmap
import resource
from collections.abc import Callable, Collection
from pathlib import Path

from llmagentos.errors import Damaged, JournalError
from llmagentos.files import made_durably, sha256_of, write_durably

TOO_MANY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What the system says where no more files can be open or mapped."""


class Store:
    """A folder of ``cas/<sha256>`` files: written once, never changed, mapped to be read.

    A file that another process has written is checked against its name before it is first used.
    A mapped file is an open one, so this process may have as many open as its hard limit allows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def put(self, body: bytes) -> str:
        """The hash under which ``body`` is on the disk."""
        name = hashlib.sha256(body).hexdigest()
        if name not in self._sound:
            write_durably(self.folder / name, body)
            self._sound.add(name)
        return name

    def put_written(self, write: Callable[[Path], object]) -> str:
        """As ``put``, for a body that ``write`` puts into a file and that is nowhere else whole."""
        name = made_durably(self.folder, write, sha256_of)
        self._sound.add(name)
        return name

    def map(self, name: str) -> memoryview:
        """The file as read-only mapped memory; pages are read when they are used.

        Raises ``Damaged`` when it is lost or does not hold what its name says, and ``JournalError``
        when too many files are mapped.
        """
        path = self.folder / name
        try:
            body = _mapped(path)
        except (OSError, ValueError) as error:
            raise Damaged(f"{path} cannot be read: {error}") from error
        if name not in self._sound and hashlib.sha256(body).hexdigest() != name:
            raise Damaged(f"{path} does not hold what was written to it")
        self._sound.add(name)
        return body

    def drop(self, name: str) -> None:
        """Delete one file, if it is there."""
        self._sound.discard(name)
        (self.folder / name).unlink(missing_ok=True)

    def keep(self, names: Collection[str]) -> None:
        """Delete everything else, half-written files included."""
        self._sound.intersection_update(names)
        for path in self.folder.iterdir():
            if path.name not in names:
                path.unlink()


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        if error.errno not in TOO_MANY:
            raise
        raise JournalError(
            f"{path}: {error.strerror}; a round maps the file of every agent that counts in it, so "
            "raise `ulimit -n` (or LimitNOFILE of the service) above their number"
        ) from error
