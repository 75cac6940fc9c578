"""Drawings of how far the agents' deltas agree: cosines of every pair of them.

1 is the same direction, 0 unrelated, below 0 against each other.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from llmagentos.report.agreement import Agreement, Matrix, agreement_of, members
from llmagentos.report.drawing import (
    CARD,
    INK,
    SERIES,
    STYLE,
    Chart,
    canvas,
    line,
    round_axis,
    sign,
    to_svg,
)
from llmagentos.report.quantities import label
from llmagentos.report.records import RunRecords

MOST_NUMBERS = 10
"""Agents whose cosines are written into their cells."""
MOST_SMALL_NUMBERS = 5
"""The same in a small map."""
MOST_NAMES = 24
"""Agents that a small map has room for."""
MOST_MULTIPLES = 6
"""Rounds that get a small map each."""

_ALIKE, _AGAINST = (0.0, 0.447, 0.698), (0.835, 0.369, 0.0)
_DENSEST = 0.7
"""Opacity at the end of the scale, so that the page's own ink stays readable on it."""


def draw_cosines(run: RunRecords) -> list[Chart]:
    """The last round's map; with two rounds or more also the course of the mean over pairs.

    Where the last round had too many agents for their pairs, the map is of agents and rounds.
    """
    rounds = [found for found in map(agreement_of, run.rounds) if found.known]
    if not rounds:
        return []
    pairs = rounds[-1].matrix
    names = members(rounds, run.roster)
    chart = _draw_crowd(rounds, names) if pairs is None else _draw_pairs(rounds[-1], pairs)
    return [chart, _draw_mean(rounds)] if len(rounds) > 1 else [chart]


def draw_multiples(run: RunRecords) -> list[Chart]:
    """A small map a round, all on one scale and in one order, while rounds and agents are few."""
    rounds = list(map(agreement_of, run.rounds))
    names = members(rounds, run.roster)
    if not (1 < len(names) <= MOST_NAMES and 1 < len(rounds) <= MOST_MULTIPLES):
        return []
    matrices = [found.among(names) for found in rounds]
    limit = _scale(matrices)
    titles = [f"Round {found.round}" for found in rounds]
    return [
        Chart(title, _draw_map(matrix, None, limit, title))
        for title, matrix in zip(titles, matrices, strict=True)
    ]


def _draw_pairs(found: Agreement, pairs: Matrix) -> Chart:
    """The cosine of every two agents."""
    limit, title = _scale([pairs]), f"Cosines between deltas, round {found.round}"
    return Chart(title, _draw_map(pairs, found.names, limit, title), _span_note(limit))


def _draw_crowd(rounds: list[Agreement], names: list[str]) -> Chart:
    """Every agent's mean cosine with the others by round."""
    numbers = np.arange(rounds[0].round, rounds[-1].round + 1)
    rows, title = {name: row for row, name in enumerate(names)}, "Cosine with the other agents"
    means = np.full((len(names), len(numbers)), np.nan)
    for found in rounds:
        means[[rows[name] for name in found.names], found.round - numbers[0]] = found.means
    limit = _scale([means])
    with mpl.rc_context({**STYLE, "axes.grid": False, "axes.spines.bottom": False}):
        figure, axes = canvas(height=3.9)
        edges = (numbers[0] - 0.5, numbers[-1] + 0.5, len(names) - 0.5, -0.5)
        axes.imshow(_shades(means, limit), interpolation="none", aspect="auto", extent=edges)
        round_axis(axes, numbers, f"{len(names)} agents")
        axes.set_yticks([])
        note = f"The mean over the others; blank where an update did not count. {_span_note(limit)}"
        return Chart(title, to_svg(figure, title), note)


def _span_note(limit: float) -> str:
    return f"The colours span \N{MINUS SIGN}{limit:g} to {limit:g}."


def _scale(matrices: list[Matrix]) -> float:
    """The largest magnitude of any pair, rounded up to a quarter."""
    largest = max(np.nanmax(np.abs(matrix), initial=0.0) for matrix in matrices)
    return max(0.25, float(np.ceil(4 * min(largest, 1.0)) / 4))


def _draw_map(matrix: Matrix, names: Sequence[str] | None, limit: float, title: str) -> str:
    """Cells in blue where deltas agree and in orange where they oppose; named unless small."""
    side = 2.0 if names is None else 4.3
    with mpl.rc_context({**STYLE, "axes.grid": False, "axes.spines.bottom": False}):
        figure, axes = canvas(side, side if names is None else 3.9)
        axes.imshow(_shades(matrix, limit), interpolation="none")
        gap = 2 if len(matrix) <= MOST_NUMBERS else 1
        edges = np.arange(0.5, len(matrix) - 1)
        axes.hlines(edges, -0.5, len(matrix) - 0.5, color=CARD, linewidth=gap)
        axes.vlines(edges, -0.5, len(matrix) - 0.5, color=CARD, linewidth=gap)
        if len(matrix) <= (MOST_NUMBERS if names else MOST_SMALL_NUMBERS):
            _write_numbers(axes, matrix)
        _name_axes(axes, names or [])
        return to_svg(figure, title)


def _shades(matrix: Matrix, limit: float) -> NDArray[np.float64]:
    """``(n, n) -> (n, n, 4)``: red, green, blue and opacity; nothing where there is no cosine."""
    colours = np.where((matrix < 0)[..., None], _AGAINST, _ALIKE)
    opacity = np.clip(np.nan_to_num(np.abs(matrix)) / limit, 0, 1) * _DENSEST
    return np.concatenate([colours, opacity[..., None]], axis=2)


def _write_numbers(axes: Axes, matrix: Matrix) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=INK)


def _name_axes(axes: Axes, names: Sequence[str]) -> None:
    if not names:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    labels = [label(name, 14) for name in names]
    few = len(names) <= MOST_NUMBERS
    size, lean = (9.5, {"rotation": 40, "ha": "right"}) if few else (7, {"rotation": 90})
    axes.set_xticks(range(len(names)), labels, fontsize=size, **lean)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    axes.tick_params(length=0)


def _draw_mean(rounds: list[Agreement]) -> Chart:
    """The mean cosine over pairs by round, in the span from the lowest pair to the highest."""
    numbers, title = np.array([found.round for found in rounds]), "Cosine of the average pair"
    low, high = [found.lowest for found in rounds], [found.highest for found in rounds]
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=3.7)
        axes.fill_between(numbers, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        means = np.array([found.mean for found in rounds])
        line(axes, numbers, means, color=SERIES[0], marker="o")
        round_axis(axes, numbers, "cosine")
        note = "The band spans all pairs."
        return Chart(title, to_svg(figure, title), note, (sign("mean over pairs", 0),))
