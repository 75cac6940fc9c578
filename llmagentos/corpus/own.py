"""One organisation's own text: the rows that it has, and what a script makes of them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmagentos.corpus.example import Example
from llmagentos.corpus.files import read_records
from llmagentos.corpus.named import NAMED
from llmagentos.errors import CorpusError

log = logging.getLogger(__name__)

Fields = Mapping[str, Any]
ToExample = Callable[[Fields], Example | None]
"""What a row teaches; nothing where it had better be left out."""


def own_examples(source: str, to_example: ToExample) -> list[Example]:
    """What the rows of a source teach, repeated ones kept once.

    ``source`` is a file or folder as in ``corpus.source``, or a group of a named corpus, such as
    ``icd10/circulatory``. Raises ``CorpusError`` with file, line and remedy.
    """
    rows = 0
    examples: dict[Example, None] = {}
    for rows, (where, fields) in enumerate(_rows(source), 1):  # noqa: B007  (the count of all)
        try:
            made = to_example(fields)
        except KeyError as error:
            raise CorpusError(
                f"{where}: no column {error} among {', '.join(fields)}; name the column that your "
                "rows have in the script's own function"
            ) from None
        if made is not None and made.response.strip():
            examples[replace(made, where=where)] = None
    log.info("%s: %d rows, %d examples", source, rows, len(examples))
    return list(examples)


def _rows(source: str) -> Iterator[tuple[str, Fields]]:
    name, _, group = source.partition("/")
    if name in NAMED and not Path(source).exists():
        yield from _named(name, group)
    else:
        yield from ((record.where, record.fields) for record in read_records(source))


def _named(name: str, group: str) -> Iterator[tuple[str, Fields]]:
    """The rows of a group of a named corpus, or of all, as ``prompt`` and ``response``."""
    examples = NAMED[name].read()
    groups = sorted({str(example.group) for example in examples})
    if group and group not in groups:
        raise CorpusError(f"{name} has no group {group!r}; there are {', '.join(groups)}")
    for example in examples:
        if group in ("", example.group):
            yield name, {"prompt": example.prompt, "response": example.response}
