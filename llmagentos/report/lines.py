"""The lines that sum up a round, and the whole run."""

from collections.abc import Mapping
from typing import Any

from llmagentos.report.quantities import (
    Number,
    count,
    decimal,
    duration,
    label,
    mean,
    percent,
    size,
)

MOST_REASONS = 3
"""Refusals that a round's line spells out."""

SMALLEST_ERROR = 5e-4
"""Share of the mean product that a round's line says is missed; below it is 0.0 %."""


def round_line(
    record: Mapping[str, Any], *, rounds: int | None = None, previous: Number = None
) -> str:
    """The one line of a closed round; ``previous`` is the loss that was read before."""
    of = f"/{rounds}" if rounds else ""
    parts = [f"round {record['round']}{of}"]
    loss = record.get("loss")
    if loss is not None:
        gain = "" if previous is None else f" ({loss - previous:+.2f})"
        parts.append(f"loss {decimal(loss)}{gain}")
    own = mean((record.get("personal") or {}).values())
    if own is not None:
        parts.append(f"personal {decimal(own)}")
    parts += [duration(record.get("seconds"))]
    parts += [
        f"up {size(record.get('bytes_up'))}{saving(record)}",
        f"down {size(record.get('bytes_down'))}",
    ]
    error = record.get("product_error") or 0.0
    if error >= SMALLEST_ERROR:
        parts.append(f"products off {percent(error, digits=1)}")
    refused = record.get("refused") or {}
    return "  ".join(parts + ([f"refused: {_reasons(refused)}"] if refused else []))


def _reasons(refused: Mapping[str, str]) -> str:
    named = [f"{label(a)} ({label(r, 120)})" for a, r in list(refused.items())[:MOST_REASONS]]
    more = len(refused) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def saving(record: Mapping[str, Any]) -> str:
    """How much less than in float32 a round or a run sent up; empty without a codec."""
    up, plain = record.get("bytes_up"), record.get("bytes_up_fp32")
    if not up or not plain or plain == up:
        return ""
    return f" ({label(record.get('codec'))}, {plain / up:.1f} times less)"


def totals_lines(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Rounds, time and size of the whole run, and what it sent."""
    plural = "" if summary["rounds"] == 1 else "s"
    rounds = f"{count(summary['rounds'])} round{plural} in {duration(summary['seconds'])}"
    best = summary.get("best_round")
    lowest = "" if best is None else f"; lowest loss in round {best}"
    up = f"{size(summary['bytes_up'])} up{saving(summary)}"
    sent = f"sent {up} and {size(summary['bytes_down'])} down for training"
    return f"{rounds}{lowest}; {count(summary['trainable'])} values trained", sent
