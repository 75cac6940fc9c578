"""Drawings of what a round cost, and of how much each agent counted."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from llmagentos.report.drawing import (
    CARD,
    MARKERS,
    MOST_BARS,
    SERIES,
    STYLE,
    Chart,
    Sign,
    bar_width,
    canvas,
    line,
    round_axis,
    sign,
    to_svg,
)
from llmagentos.report.quantities import label, size_unit
from llmagentos.report.records import Course, RunRecords


def draw_bytes(run: RunRecords) -> Chart:
    """Bytes of every round, from the agents and to them."""
    up, down = run.total("bytes_up"), run.total("bytes_down")
    scale, unit = size_unit(max(_highest(up), _highest(down)))
    courses = {"up, from the agents": up / scale, "down, to the agents": down / scale}
    return _draw_totals(run, courses, "Bytes sent", unit)


def draw_seconds(run: RunRecords) -> Chart:
    """Wall time of every round."""
    seconds = run.total("seconds")
    scale, unit = (60, "minutes") if _highest(seconds) > 600 else (1, "seconds")
    return _draw_totals(run, {"time": seconds / scale}, "Time", unit)


def draw_product_error(run: RunRecords) -> Chart:
    """How far the product of each round's factors is from the mean of the agents' products."""
    courses = {"product": 100 * run.total("product_error")}
    return _draw_totals(run, courses, "Missed by the new factors", "% of the mean product")


def draw_weights(run: RunRecords) -> Chart:
    """Each agent's share of the average: by round, or its mean where agents are many."""
    courses, title = run.by_agent("weights"), "Weight in the average"
    with mpl.rc_context(STYLE):
        figure, axes = canvas()
        if len(courses) > len(SERIES):
            note = _draw_ranked(axes, courses)
            return Chart(title, to_svg(figure, title), note)
        legend = _draw_stacked(axes, run.numbers, courses)
        round_axis(axes, run.numbers, "share of the average")
        return Chart(title, to_svg(figure, title), legend=legend)


def _draw_totals(run: RunRecords, courses: dict[str, Course], title: str, unit: str) -> Chart:
    """Courses side by side: bars while rounds are few, lines beyond."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=2.5)
        whole = bar_width(len(run.rounds))
        width = whole / len(courses)
        for series, course in enumerate(courses.values()):
            if len(run.rounds) > MOST_BARS:
                look = {"color": SERIES[series], "marker": MARKERS[series]}
                line(
                    axes, run.numbers, course, linewidth=1 + 2 * (len(courses) - 1 - series), **look
                )
            else:
                middles = run.numbers - whole / 2 + width * (series + 0.5)
                axes.bar(middles, course, 0.92 * width, color=SERIES[series])
        round_axis(axes, run.numbers, unit)
        axes.set_ylim(bottom=0)
        bars = len(run.rounds) <= MOST_BARS
        legend = [sign(name, s, "■" if bars else None) for s, name in enumerate(courses)]
        return Chart(title, to_svg(figure, title), legend=tuple(legend if len(legend) > 1 else ()))


def _draw_stacked(
    axes: Axes, rounds: NDArray[np.int64], courses: dict[str, Course]
) -> tuple[Sign, ...]:
    rows = [np.nan_to_num(course) for course in courses.values()]
    if len(rounds) > MOST_BARS:
        axes.stackplot(rounds, rows, colors=SERIES, linewidth=0)
    else:
        floors = np.cumsum([np.zeros(len(rounds)), *rows], axis=0)
        width = bar_width(len(rounds))
        for colour, row, floor in zip(SERIES, rows, floors, strict=False):
            axes.bar(rounds, row, width, bottom=floor, color=colour, edgecolor=CARD, linewidth=1)
    axes.set_ylim(0, 1)
    return tuple(sign(label(agent), series, "■") for series, agent in enumerate(courses))


def _draw_ranked(axes: Axes, courses: dict[str, Course]) -> str:
    """Bars of each agent's mean over the rounds that counted it; says who is at the ends."""
    means = {
        agent: float(course[np.isfinite(course)].mean())
        for agent, course in courses.items()
        if np.isfinite(course).any()
    }
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    axes.bar(range(1, len(ranked) + 1), [means[agent] for agent in ranked], color=SERIES[0])
    axes.set_xlim(0, len(ranked) + 1)
    axes.set_xlabel("agents, heaviest first")
    axes.set_ylabel("mean share of the average")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    ends = [f"{label(agent)} ({means[agent]:.3f})" for agent in ranked]
    return f"Over the rounds that counted an agent: from {ends[0]} to {ends[-1]}." if ends else ""


def _highest(course: Course) -> float:
    finite = course[np.isfinite(course)]
    return float(finite.max()) if len(finite) else 0.0
