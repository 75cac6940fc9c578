"""Folders that are either wholly there or not there at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmagentos.files import room_in, sync_folder


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty sibling to be filled, whose files stand on the disk as ``target`` afterwards.

    A folder that is not there yet appears in one step. In one that is, each file is replaced in
    one step, in the order of their names, so that a reader or a crash meets an old or a new file
    and never half of one. What a killed writer left is removed: one writer at a time.
    Raises ``DiskFull`` where there is no room.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    own = re.compile(re.escape(f".{target.name}.") + r"[^.]*\.part")  # merged.v2 is another's
    for left in target.parent.iterdir():
        if own.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        with room_in(target.parent):
            yield part
            _settle(part)
        _move(part, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _settle(folder: Path) -> None:
    """The files are on the disk and readable by everyone whom the parent folder lets in."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        if path.is_dir():
            _settle(path)
            continue
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def _move(part: Path, target: Path) -> None:
    if not target.exists():
        part.rename(target)
        return
    for path in sorted(part.iterdir()):
        if path.is_dir():
            shutil.rmtree(target / path.name, ignore_errors=True)
        path.replace(target / path.name)
    sync_folder(target)
