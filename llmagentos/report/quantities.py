"""Numbers and untrusted words in the form that a person reads."""

import math
import sys
from collections.abc import Iterable

Number = float | None

ABSENT = "-"
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def printable(text: object, limit: int = 600) -> str:
    """The text without characters that a terminal or a line's direction obeys; cut at ``limit``.

    Line breaks and the joiners of some scripts stay; every other white space is a blank.
    """
    shown = "".join(map(_printable, str(text).replace("\r\n", "\n")))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _printable(character: str) -> str:
    if character == "\n" or character in _JOINERS or character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def label(name: object, limit: int = 24) -> str:
    """A name on one line of at most ``limit`` characters.

    A longer one lacks its middle: agents' names often begin alike, and differ at their ends.
    """
    shown = " ".join(printable(name, limit=sys.maxsize).split())
    if len(shown) <= limit:
        return shown
    end = limit // 3
    return f"{shown[: limit - 1 - end]}…{shown[-end:]}"


def known(values: Iterable[Number]) -> list[float]:
    """The values that are there and are numbers."""
    return [value for value in values if value is not None and not math.isnan(value)]


def mean(values: Iterable[Number]) -> Number:
    """Plain mean of the known values; ``None`` when there is none."""
    numbers = known(values)
    return sum(numbers) / len(numbers) if numbers else None


def perplexity(loss: Number) -> Number:
    """``exp(loss)``, infinite beyond what a double holds."""
    if loss is None:
        return None
    return math.exp(loss) if loss < 700 else math.inf


def decimal(value: Number, digits: int = 2, sign: str = "-") -> str:
    """A fixed number of digits; ``sign="+"`` writes the plus as well."""
    return ABSENT if value is None else f"{value:{sign}.{digits}f}"


def rounded(value: Number) -> str:
    """Three significant digits: ``51.9``, ``8.41``, ``1,230``, ``2.6e+09``."""
    if value is None or not math.isfinite(value):
        return ABSENT if value is None else str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 2
    return f"{value:,.{max(digits, 0)}f}"


def count(value: Number) -> str:
    """A whole number in groups of three digits."""
    return ABSENT if value is None else f"{value:,.0f}"


def percent(share: Number, sign: str = "-", digits: int = 0) -> str:
    """``0.314`` as ``31 %``."""
    return ABSENT if share is None else f"{100 * share:{sign}.{digits}f} %"


def size_unit(size_bytes: float) -> tuple[float, str]:
    """The decimal unit that leaves 1 or more before the point: bytes in it, and its name."""
    return next((unit for unit in _SIZES if size_bytes >= unit[0]), _SIZES[-1])


def size(size_bytes: Number) -> str:
    """``7372800`` as ``7.4 MB``."""
    if size_bytes is None:
        return ABSENT
    unit, name = size_unit(size_bytes)
    return f"{size_bytes / unit:.{0 if unit == 1 else 1}f} {name}"


def duration(seconds: Number) -> str:
    """``31.2`` as ``31 s``, ``141`` as ``2 min 21 s``, ``7300`` as ``2 h 2 min``."""
    if seconds is None or seconds < 10:
        return ABSENT if seconds is None else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
