"""Drawings of one number an agent and round: a line each, or a crowd with its ends named."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from llmagentos.report.drawing import (
    CSS_COLOURS,
    INK,
    MARKERS,
    MOST_BARS,
    MUTED,
    SERIES,
    STYLE,
    Chart,
    Sign,
    canvas,
    line,
    round_axis,
    sign,
    to_svg,
)
from llmagentos.report.quantities import label
from llmagentos.report.records import Course, RunRecords


@dataclass(frozen=True)
class AgentCourses:
    """One number of every agent over the rounds, and one for all agents together.

    Every course is ``(rounds,)``; NaN where an agent took no part.
    """

    rounds: NDArray[np.int64]
    agents: dict[str, Course]
    together: Course
    together_name: str = "mean of agents"

    @property
    def measured(self) -> bool:
        """Whether any agent has a value in any round after the start."""
        later = self.rounds > 0
        return any(np.isfinite(course[later]).any() for course in self.agents.values())


def held_out_loss(run: RunRecords) -> AgentCourses:
    """Loss of each round's global adapter on every silo; at round 0, of the start."""
    rounds, agents, together = run.numbers, run.by_agent("agents"), run.total("loss")
    before = (run.summary or {}).get("before", {})
    if not before:
        return AgentCourses(rounds, agents, together)
    first = {agent: _or_nan(before.get(agent, {}).get("loss")) for agent in agents}
    start = np.array([[loss] for loss in first.values()], np.float64)
    return AgentCourses(
        rounds=np.concatenate([[0], rounds]),
        agents={agent: np.append(first[agent], course) for agent, course in agents.items()},
        together=np.append(_mean_of_known(start), together),
    )


def personal_loss(run: RunRecords) -> AgentCourses:
    """Loss of each agent's own adapter on its own silo."""
    agents = run.by_agent("personal")
    return AgentCourses(run.numbers, agents, _mean_of_known(np.array(list(agents.values()))))


def training_loss(run: RunRecords) -> AgentCourses:
    """Mean loss over each agent's own steps."""
    agents = run.by_agent("train_loss")
    return AgentCourses(run.numbers, agents, _mean_of_known(np.array(list(agents.values()))))


def delta_norms(run: RunRecords) -> AgentCourses:
    """L2 norm of each agent's delta, and of their average, the round's change."""
    norms, update_norm = run.by_agent("norms"), run.total("update_norm")
    return AgentCourses(run.numbers, norms, update_norm, "their average")


def draw_agents(courses: AgentCourses, title: str, unit: str, note: str = "") -> Chart:
    """One line an agent; beyond eight agents thin ones, with the highest and lowest named."""
    shown = {name: course for name, course in courses.agents.items() if np.isfinite(course).any()}
    with mpl.rc_context(STYLE):
        figure, axes = canvas()
        if len(shown) > len(SERIES):
            legend = _draw_crowd(axes, courses.rounds, shown)
        else:
            colours = courses.agents if len(courses.agents) <= len(SERIES) else shown
            legend = _draw_each(axes, courses.rounds, shown, list(colours))
        if np.isfinite(courses.together).any() and len(shown) > 1:
            _draw_together(axes, courses)
            legend.append(Sign(courses.together_name, "━", CSS_COLOURS[INK]))
        round_axis(axes, courses.rounds, unit)
        return Chart(title, to_svg(figure, title), note, tuple(legend))


def _draw_together(axes: Axes, courses: AgentCourses) -> None:
    """A bold line, under the agents' signs while rounds are few; a dash for a single round."""
    order = 4 if len(courses.rounds) < MOST_BARS else 6
    alone = {"marker": "_", "markersize": 14} if len(courses.rounds) == 1 else {}
    line(axes, courses.rounds, courses.together, color=INK, linewidth=2.4, zorder=order, **alone)


def _draw_each(
    axes: Axes, rounds: NDArray[np.int64], shown: dict[str, Course], colours: list[str]
) -> list[Sign]:
    for agent, course in shown.items():
        series = colours.index(agent)
        line(axes, rounds, course, color=SERIES[series], marker=MARKERS[series], zorder=5)
    return [sign(label(agent), colours.index(agent)) for agent in shown]


def _draw_crowd(axes: Axes, rounds: NDArray[np.int64], shown: dict[str, Course]) -> list[Sign]:
    last = {agent: course[np.isfinite(course)][-1] for agent, course in shown.items()}
    ends = [max(last, key=last.__getitem__), min(last, key=last.__getitem__)]
    for agent, course in shown.items():
        if agent not in ends:
            line(axes, rounds, course, color=MUTED, linewidth=0.7, alpha=0.4)
    for series, agent in zip((1, 0), ends, strict=True):
        look = {"color": SERIES[series], "marker": MARKERS[series], "zorder": 5}
        line(axes, rounds, shown[agent], **look)
    return [
        sign(f"highest at the end: {label(ends[0])}", 1),
        sign(f"lowest: {label(ends[1])}", 0),
        Sign(f"the other {len(shown) - 2} agents", "─", CSS_COLOURS[MUTED]),
    ]


def _mean_of_known(rows: NDArray[np.float64]) -> Course:
    """``(agents, rounds) -> (rounds,)``: the mean over the agents that have a value."""
    counts = np.isfinite(rows).sum(axis=0)
    sums = np.where(np.isfinite(rows), rows, 0.0).sum(axis=0)
    mean: Course = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return mean


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
