"""Files that are either wholly there or not there at all, also after a power cut."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_durably(path: Path, body: bytes) -> None:
    """``path`` holds ``body`` and survives a crash; until then it holds what it held before."""
    made_durably(path.parent, lambda part: part.write_bytes(body), lambda _: path.name)


def made_durably(
    folder: Path, write: Callable[[Path], object], name_of: Callable[[Path], str]
) -> str:
    """The name of a file in ``folder`` that survives a crash and is not seen before it is whole.

    ``write`` fills a file under another name, and ``name_of`` reads it to say how it is called.
    """
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
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
