"""What was measured beside what was aimed at: one line of a table, from the text of RESULTS.md."""

from collections.abc import Callable
from dataclasses import dataclass

Find = Callable[[str], float | None]
"""Text of RESULTS.md to the number that was measured, or nothing where none was."""


@dataclass(frozen=True)
class Unit:
    """How a number is told, and whether less of it is better."""

    form: str
    name: str
    less: bool = False

    def reached(self, value: float, target: float) -> bool:
        """Whether the value is as good as the target or better."""
        return value <= target if self.less else value >= target

    def told(self, values: list[float | None], absent: str) -> str:
        """The values with slashes between them, once where all are told alike."""
        told = [absent if value is None else self.form.format(value) for value in values]
        alike = set(told) == set(told[:1])
        name = "" if set(told) == {absent} else f" {self.name}"
        return f"{told[0] if alike else ' / '.join(told)}{name}".rstrip()


SHARE = Unit("{:.0f}", "%")
TIMES = Unit("{:.3g}", "times")
FASTER = Unit("{:.3g}", "times faster")
AVERAGES = Unit("{:.3g}", "averages", less=True)
OF_MEMORY = Unit("{:.3g}", "times", less=True)
ERROR = Unit("{:.0e}", "", less=True)
MEGABYTES = Unit("{:.0f}", "MB", less=True)
GIGABYTES = Unit("{:.3g}", "GB", less=True)
SPEED = Unit("{:.3g}", "GB/s")
LAUNCHES = Unit("{:.0f}", "", less=True)


Targets = tuple[float, float]
"""Floor and stretch; the stretch is never easier than the floor."""
Pairs = tuple[Targets | None, ...]
"""Targets of each case, or one pair for all."""
NONE: Pairs = (None,)


@dataclass(frozen=True)
class Case:
    """One number of a line, and its targets where it has some."""

    name: str
    find: Find
    targets: Targets | None = None

    def grade(self, unit: Unit, text: str) -> str:
        """What of its targets the number reaches: short, floor or stretch; else empty."""
        value = self.find(text)
        if value is None or self.targets is None:
            return ""
        floor, stretch = self.targets
        if unit.reached(value, stretch):
            return "stretch"
        return "floor" if unit.reached(value, floor) else "short"


@dataclass(frozen=True)
class Line:
    """A measure with its cases; ``why`` is told where a floor is missed."""

    measure: str
    unit: Unit
    cases: tuple[Case, ...]
    why: str = ""
    absent: str = "not measured"

    def measured(self, text: str) -> str:
        """The numbers of all cases, or that there are none."""
        return self.unit.told([case.find(text) for case in self.cases], self.absent)

    def row(self, text: str) -> str:
        """Measure, floor, stretch, measured and verdict as a line of a table."""
        aims = [
            self.unit.told([(case.targets or (None, None))[k] for case in self.cases], "")
            for k in (0, 1)
        ]
        return f"| {' | '.join([self.measure, *aims, self.measured(text), self.verdict(text)])} |"

    def grades(self, text: str) -> dict[str, str]:
        """Grade by the name of every case that has one."""
        found = {case.name: case.grade(self.unit, text) for case in self.cases}
        return {name: grade for name, grade in found.items() if grade}

    def verdict(self, text: str) -> str:
        """Which cases miss their floor; else what all that were measured reach."""
        grades = self.grades(text)
        if short := [name for name, grade in grades.items() if grade == "short"]:
            names = f" at {', '.join(short)}" if len(self.cases) > 1 else ""
            return f"short of the floor{names}{f': {self.why}' if self.why else ''}"
        if not grades:
            return ""
        part = " where measured" if len(grades) < len(self.cases) else ""
        return f"{'floor' if 'floor' in grades.values() else 'stretch'} met{part}"


def line(
    words: str, unit: Unit, finds: dict[str, Find], targets: Pairs = NONE, why: str = ""
) -> Line:
    """A line of named numbers; the names stand where the words have ``{}``."""
    pairs = targets if len(targets) > 1 else targets * len(finds)
    cases = (Case(*found, pair) for found, pair in zip(finds.items(), pairs, strict=True))
    return Line(words.format(" / ".join(finds)), unit, tuple(cases), why)
