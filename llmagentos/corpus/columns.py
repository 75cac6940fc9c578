"""Which columns hold the text, and the example that a record makes."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llmagentos.corpus.example import Example
from llmagentos.corpus.files import Record, read_records
from llmagentos.errors import CorpusError
from llmagentos.settings.corpus import CorpusSettings

USUAL = {
    "messages": ("messages", "conversation", "conversations", "chat"),
    "prompt": ("prompt", "instruction", "question", "input"),
    "response": ("response", "completion", "answer", "output"),
    "text": ("text", "content"),
}
"""Names by which a column is recognised."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read: ``messages``, or prompt and response, or ``text``."""

    messages: str | None = None
    prompt: str | None = None
    response: str | None = None
    text: str | None = None


def read_examples(source: str, settings: CorpusSettings) -> list[Example]:
    """The usable rows of a file or folder, in order; empty ones are left out and counted.

    Without ``corpus.partition.column`` the group of an example is the name of its file.
    Raises ``CorpusError`` with file, line and remedy.
    """
    examples: list[Example] = []
    columns: dict[str, Columns] = {}
    rows = 0
    for rows, record in enumerate(read_records(source), 1):  # noqa: B007  (the count of all)
        if record.file not in columns:
            _check_alone(record.file, columns, settings)
            columns[record.file] = choose_columns(record, settings)
        group = _group(record, settings.partition.column)
        examples += _examples(record, columns[record.file], group)
    if not rows:
        raise CorpusError(f"{source}: is empty; need at least two rows")
    if not examples:
        raise CorpusError(f"{source}: no usable row of {rows}; every prompt or response is empty")
    if len(examples) < rows:
        log.warning("%s: %d of %d rows are empty and left out", source, rows - len(examples), rows)
    return examples


def _check_alone(file: str, others: Iterable[str], settings: CorpusSettings) -> None:
    """Raise ``CorpusError`` for files that would be one agent's, as they differ in their kind."""
    by_name = settings.partition.by == "field" and settings.partition.column is None
    same = [other for other in others if Path(other).stem == Path(file).stem]
    if same and by_name and not settings.agents:
        raise CorpusError(
            f"{same[0]} and {file}: the name of a file is its agent's, so both are of "
            f"{Path(file).stem!r}; rename one, or put them into one file"
        )


def choose_columns(record: Record, settings: CorpusSettings) -> Columns:
    """The columns that the settings name, else those with usual names."""
    has = record.fields
    if settings.messages:
        return Columns(messages=settings.messages)
    if settings.text:
        return Columns(text=settings.text)
    prompt = settings.prompt or _usual("prompt", record)
    response = settings.response or _usual("response", record)
    if settings.prompt or settings.response:
        return Columns(prompt=prompt or "prompt", response=response or "response")
    if messages := _usual("messages", record):
        return Columns(messages=messages)
    if prompt and response:
        return Columns(prompt=prompt, response=response)
    if text := _usual("text", record):
        return Columns(text=text)
    raise CorpusError(
        f"{record.where}: none of the columns {', '.join(has)} is known; set corpus.text, or "
        "corpus.prompt and corpus.response, or corpus.messages"
    )


def _usual(role: str, record: Record) -> str | None:
    """The one column with a usual name; two are an error, for one would be lost in silence."""
    found = [name for name in USUAL[role] if name in record.fields]
    if len(found) > 1:
        raise CorpusError(
            f"{record.where}: columns {' and '.join(found)} could both be the {role}; "
            f"set corpus.{role} to one of them"
        )
    return found[0] if found else None


def _examples(record: Record, columns: Columns, group: str | None) -> Iterator[Example]:
    """The record's example, or nothing where a part of it is blank."""
    if columns.messages:
        turns = _turns(record, columns.messages)
        if turns and all(content.strip() for _, content in turns):
            prompt = turns[-2][1] if len(turns) > 1 else ""
            yield Example(prompt, turns[-1][1], turns, group, record.where)
        return
    prompt = _text(record, columns.prompt) if columns.prompt else ""
    response = _text(record, columns.response or columns.text or "")
    if response and (prompt or not columns.prompt):
        yield Example(prompt, response, group=group, where=record.where)


def _turns(record: Record, column: str) -> tuple[tuple[str, str], ...]:
    """The turns up to the last answer; what follows it teaches nothing."""
    messages = _field(record, column) or []
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise CorpusError(
            f"{record.where}: column {column!r} holds {str(messages)[:40]!r}; need a list of "
            '{"role": "user", "content": "..."}'
        )
    turns = tuple((message["role"], message["content"]) for message in messages)
    answers = [number for number, (role, _) in enumerate(turns, 1) if role == "assistant"]
    return turns[: answers[-1]] if answers else ()


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _text(record: Record, column: str) -> str:
    """The column's text without blanks around it; null is empty."""
    value = _field(record, column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(
            f"{record.where}: column {column!r} holds {str(value)[:40]!r} "
            f"({type(value).__name__}); need text, or name another column in corpus.text, "
            "corpus.prompt or corpus.response"
        )
    return value.strip()


def _group(record: Record, column: str | None) -> str:
    if column is None:
        return Path(record.file).stem
    value = _field(record, column)
    if value is None:
        raise CorpusError(
            f"{record.where}: column {column!r} is null, so the row is nobody's; name its agent, "
            "or take the row out"
        )
    return str(value)


def _field(record: Record, column: str) -> Any:
    if column not in record.fields:
        near = get_close_matches(column, map(str, record.fields), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise CorpusError(
            f"{record.where}: no column {column!r} among {', '.join(map(str, record.fields))}{hint}"
        )
    return record.fields[column]
