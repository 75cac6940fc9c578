"""Sections of a Markdown file such as RESULTS.md, and the numbers in their tables."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby

LAST = "## What has not run"
NUMBER = re.compile(r"[\d,]*\.?\d+(e[+-]?\d+)?")


def of_command(command: str) -> str:
    """The heading of the section that a command writes."""
    return f"## `{command}`"


def section(text: str, heading: str) -> str:
    """What stands under the heading, up to the next of its level; empty where it is missing."""
    rest = f"\n{text}".partition(f"\n{heading}\n")[2]
    return f"\n{rest}".partition("\n## ")[0].strip()


def with_section(text: str, heading: str, body: str) -> str:
    """The text with that section replaced, or with one more before what is missing."""
    before, found, rest = text.partition(f"{heading}\n")
    if not found:
        measured, missing, rest = text.partition(LAST)
        return f"{measured.rstrip()}\n\n{heading}\n\n{body}\n\n{missing}{rest}"
    _, following, after = rest.partition("\n## ")
    return f"{before}{heading}\n\n{body}\n{following}{after}"


def rows(part: str) -> Iterator[dict[str, str]]:
    """Every row of every table by its columns; of two columns with one name the last counts."""
    for is_table, lines in groupby(part.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            columns, _, *body = map(cells, lines)
            yield from (dict(zip(columns, row, strict=True)) for row in body)


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def number(cell: str) -> float | None:
    """The first number of a cell, which is the median where the spread follows it."""
    found = NUMBER.search(cell)
    return float(found[0].replace(",", "")) if found else None


def measured(text: str, command: str, row: Sequence[str], column: str) -> float | None:
    """A number in the section of a command, in the first row whose leading cells match.

    ``row`` has shell patterns. Nothing where section, row, column or number is missing.
    """
    for found in rows(section(text, of_command(command))):
        if column in found and all(map(fnmatchcase, found.values(), row)):
            return number(found[column])
    return None
