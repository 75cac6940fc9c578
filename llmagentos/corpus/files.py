"""Records of files and folders, each with the place that an error message names."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmagentos.corpus.json_line import read_json
from llmagentos.errors import CorpusError
from llmagentos.files import expanded

HUB = "hub:"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How text of two bytes a letter begins, as spreadsheets write it."""
LONGEST_FIELD = 2**31 - 1
"""Characters in a field of a csv file; the csv module stops at 131,072 unless told."""


class Record(NamedTuple):
    """One row as it was stored; ``where`` is its file and line."""

    where: str
    file: str
    fields: dict[str, Any]


def read_records(source: str) -> Iterator[Record]:
    """The rows of a file, of a folder's files by name, of a ``datasets`` folder, or of a hub's.

    Raises ``CorpusError`` with file, line and remedy.
    """
    if source.startswith(HUB):
        yield from _hub(source.removeprefix(HUB))
        return
    try:
        yield from _local(expanded(source))
    except OSError as error:
        place, reason = error.filename or source, error.strerror or error
        raise CorpusError(f"{place}: {reason}; mend it, or take it away") from error


def _local(path: Path) -> Iterator[Record]:
    """The rows of what lies on this machine."""
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder; is the path relative to another one?")
    if path.is_dir() and any(
        (path / name).exists() for name in ("state.json", "dataset_dict.json")
    ):
        yield from _stored_dataset(path)
        return
    for file in _files(path):
        for place, fields in READERS[file.suffix.lower()](file):
            yield Record(f"{file}, {place}", file.name, fields)


def _files(path: Path) -> list[Path]:
    """The file itself, or those of the folder that can be read, by name."""
    known = ", ".join(READERS)
    if path.is_file():
        if path.suffix.lower() not in READERS:
            raise CorpusError(f"{path}: unknown kind {path.suffix!r}; store the text as {known}")
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    if not files:
        raise CorpusError(f"{path}: the folder has no file of a known kind; need {known}")
    return files


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without a byte order mark."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                kind = "utf-16" if line.startswith(UTF16) else "latin1"
                raise CorpusError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} at column "
                    f"{error.start + 1} is not UTF-8; convert the file, for example with "
                    f"`iconv -f {kind} -t utf-8`"
                ) from error
            yield number, text


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            fields = read_json(line)
        except ValueError as error:
            raise CorpusError(
                f"{path}, line {number}: not JSON ({error}); need one object a line"
            ) from error
        if not isinstance(fields, dict):
            raise CorpusError(
                f"{path}, line {number}: holds a {type(fields).__name__}; need one object a line"
            )
        yield f"line {number}", fields


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        header = next(rows, header)
        _check_header(path, header, delimiter)
        for fields in rows:
            place = f"line {rows.line_num}"
            if fields and len(fields) != len(header):
                raise CorpusError(
                    f"{path}, {place}: {len(fields)} fields, but the header has {len(header)}; "
                    f"quote text that holds {delimiter!r} or a line break"
                )
            if fields:
                yield place, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise CorpusError(
            f"{path}, line {rows.line_num}: not CSV ({error}); double the quotes inside quoted text"
        ) from error


def _check_header(path: Path, header: list[str], delimiter: str) -> None:
    """Raise ``CorpusError`` for a header of another delimiter, or with a name twice."""
    other = next((mark for mark in ";\t|," if mark in "".join(header)), None)
    if len(header) == 1 and other:
        raise CorpusError(
            f"{path}, line 1: the header {header[0]!r} is parted by {other!r}, not {delimiter!r}; "
            "save the file as .csv with commas, or as .tsv with tabs"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"{path}, line 1: two columns are called {twice!r}; rename one")


def _txt(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(path):
        yield f"line {number}", {"text": line.rstrip("\r\n")}


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, OverflowError, ValueError) as error:
        raise CorpusError(f"{path}: not a parquet file ({error}); write it again") from error
    yield from ((f"row {number}", fields) for number, fields in enumerate(rows, 1))


READERS: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}


def _stored_dataset(path: Path) -> Iterator[Record]:
    import datasets  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        stored = datasets.load_from_disk(str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f"{path}: no whole folder of datasets ({type(error).__name__}: {error}); write it "
            "again with save_to_disk"
        ) from error
    yield from _dataset(stored, str(path), path.name)


def _hub(name: str) -> Iterator[Record]:
    import datasets  # noqa: PLC0415

    try:
        stored = datasets.load_dataset(name)
    except Exception as error:
        raise CorpusError(
            f"corpus {HUB}{name}: {error}; check the name and the way to the hub, or copy the data "
            "here and name its folder"
        ) from error
    yield from _dataset(stored, f"{HUB}{name}", name)


def _dataset(stored: Any, where: str, name: str) -> Iterator[Record]:
    """The rows of a dataset; of several splits, the one called ``train``."""
    if isinstance(stored, dict):
        if "train" not in stored:
            raise CorpusError(f"{where}: has {', '.join(stored)}, but no split called train")
        stored = stored["train"]
    for number, fields in enumerate(stored, 1):
        yield Record(f"{where}, row {number}", name, fields)
