"""Files that are either wholly there or not there at all, also after a power cut."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from llmagentos.errors import DiskFull

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says when a disk, a quota or the largest allowed file is full."""


def expanded(source: str) -> Path:
    """The path that a user named, with ``~`` as its home; as it is where there is no such home."""
    return Path(os.path.expanduser(source))  # noqa: PTH111  (pathlib's raises a RuntimeError)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """All that is written inside has room; ``DiskFull`` names the folder where it has not."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = _code_of(error)
        if code not in FULL:
            raise
        raise DiskFull(f"{folder}: {os.strerror(code)}; make room there") from error


def _code_of(error: OSError | SafetensorError) -> int:
    """The system's number for an error, which safetensors says in words only."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else 0


def write_durably(path: Path, body: bytes) -> None:
    """``path`` holds ``body`` and survives a crash; until then it holds what it held before.

    Raises ``DiskFull`` where there is no room.
    """
    made_durably(path.parent, lambda part: part.write_bytes(body), lambda _: path.name)


def made_durably(
    folder: Path, write: Callable[[Path], object], name_of: Callable[[Path], str]
) -> str:
    """The name of a file in ``folder`` that survives a crash and is not seen before it is whole.

    ``write`` fills a file under another name, and ``name_of`` reads it to say how it is called.
    Raises ``DiskFull`` where there is no room.
    """
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        with room_in(folder):
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        name = name_of(part)
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(folder)
    return name


def write_secret(path: Path, body: bytes) -> None:
    """``path`` holds ``body`` and survives a crash; nobody but its owner can ever read it.

    Raises ``FileExistsError`` where there is such a file, which is left as it is.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(part)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """The folder is there, with those above it, also after a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
