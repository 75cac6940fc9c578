"""What the fields of a message must be before they are believed to be one."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

LONGEST_TEXT = 4096
LARGEST_COUNT = 2**53


def sane(fields: Mapping[str, Any]) -> bool:
    """Whether all text can be written and all counts can be kept."""
    return all(_sane(value) for value in fields.values())


def _sane(value: Any) -> bool:
    if isinstance(value, str):
        return is_text(value)
    return is_count(value) or not isinstance(value, int)


def is_text(value: Any) -> bool:
    """Whether it is text that can be written and printed, and is not long."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def is_name(value: Any) -> bool:
    """Whether it can be what an agent is called: text that is not blank."""
    return is_text(value) and bool(value.strip())


def one_line(text: str) -> str:
    """The text as ``is_text`` wants it: a blank for white space, ? for what cannot be printed."""
    letters = " ".join(text.split())[:LONGEST_TEXT]
    return "".join(letter if letter.isprintable() else "?" for letter in letters)


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 0 on that a float64 holds exactly."""
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def is_number(value: Any) -> bool:
    """Whether it is a plain finite number."""
    whole = type(value) is int and abs(value) <= LARGEST_COUNT
    return whole or (type(value) is float and isfinite(value))


def fits(fields: Mapping[str, Any], types: Mapping[str, type]) -> bool:
    """Whether there are just these fields with just these types; bool does not pass for int."""
    return set(fields) == set(types) and all(type(fields[name]) is types[name] for name in types)
