"""Who touches fresh memory in `average.py`, and how much of the distance to us that explains."""

from functools import partial

import measures as at
from sections import measured, number, of_command, rows, section

MANY = 1_000
NAMES = "cohort", "contender", "page faults"
HEAD = f"| {' | '.join(NAMES)} | share of the distance |\n|---|---|---|---|"


def page_faults(text: str) -> str:
    """A table of the contenders with many page faults in a run, or that there are none."""
    found = [(run, r) for run in at.AVERAGE.values() for r in rows(section(text, of_command(run)))]
    lines = [
        f"| {' | '.join([*(row[name] for name in NAMES), explained(text, run, row)])} |"
        for run, row in found
        if (number(row["page faults"]) or 0) > MANY and row["contender"] != at.FIRST_TOUCH
    ]
    if lines:
        return "\n".join([HEAD, *lines])
    return "No contender has as many." if found else "Not measured."


def explained(text: str, run: str, row: dict[str, str]) -> str:
    """The faults at the price of one in the same run, as a share of what is not our time."""
    found = partial(measured, text, run)
    touched = (row["cohort"], at.FIRST_TOUCH)
    known = [
        number(row[at.MS]),
        found((row["cohort"], at.OURS), at.MS),
        number(row["page faults"]),
        found(touched, at.MS),
        found(touched, "page faults"),
    ]
    if None in known:
        return "not measured"
    theirs, ours, faults, touching, touches = known
    if theirs <= ours:
        return "no distance"
    return f"{faults * touching / touches / (theirs - ours):.0%}"
