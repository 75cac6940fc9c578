"""Drawings of how far the agents' deltas agree: cosines of every pair of them.

1 is the same direction, 0 unrelated, below 0 against each other.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

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
"""Agents that are named along the axes."""
MOST_MULTIPLES = 6
"""Rounds that get a small map each."""

_ALIKE, _AGAINST = (0.0, 0.447, 0.698), (0.835, 0.369, 0.0)
_DENSEST = 0.7
"""Opacity at the end of the scale, so that the page's own ink stays readable on it."""

Matrix = NDArray[np.float64]


def draw_cosines(run: RunRecords) -> list[Chart]:
    """The last round's map; with two rounds or more also the course of the mean over pairs."""
    with_pairs = [record for record in run.rounds if np.isfinite(_matrix(record)).any()]
    if not with_pairs:
        return []
    last = with_pairs[-1]
    title = f"Cosines between deltas, round {last['round']}"
    limit = _scale([_matrix(last)])
    note = f"The colours span \N{MINUS SIGN}{limit:g} to {limit:g}."
    charts = [Chart(title, _draw_map(_matrix(last), last["cosines"]["names"], limit, title), note)]
    return [*charts, _draw_mean(with_pairs)] if len(with_pairs) > 1 else charts


def draw_multiples(run: RunRecords) -> list[Chart]:
    """A small map a round, all on one scale and in one order, while rounds are few."""
    cosines = [record.get("cosines") or {"names": [], "matrix": []} for record in run.rounds]
    names = list(dict.fromkeys(name for pairs in cosines for name in pairs["names"]))
    if len(names) < 2 or not 1 < len(run.rounds) <= MOST_MULTIPLES:
        return []
    matrices = [_spread(record, names) for record in run.rounds]
    limit = _scale(matrices)
    titles = [f"Round {record['round']}" for record in run.rounds]
    return [
        Chart(title, _draw_map(matrix, None, limit, title))
        for title, matrix in zip(titles, matrices, strict=True)
    ]


def _spread(record: Mapping[str, Any], names: list[str]) -> Matrix:
    """The round's cosines among the agents of all rounds; NaN for those that took no part."""
    there = [names.index(name) for name in (record.get("cosines") or {}).get("names", [])]
    matrix = np.full((len(names), len(names)), np.nan)
    matrix[np.ix_(there, there)] = _matrix(record)
    return matrix


def _matrix(record: Mapping[str, Any]) -> Matrix:
    """``(n, n)``; NaN on the diagonal, which is always 1, and where a cosine is null."""
    rows = (record.get("cosines") or {}).get("matrix", [])
    matrix = np.array(rows, np.float64).reshape(len(rows), len(rows))
    np.fill_diagonal(matrix, np.nan)
    return matrix


def _scale(matrices: list[Matrix]) -> float:
    """The largest magnitude of any pair, rounded up to a quarter."""
    largest = max(np.nanmax(np.abs(matrix), initial=0.0) for matrix in matrices)
    return max(0.25, float(np.ceil(4 * min(largest, 1.0)) / 4))


def _draw_map(matrix: Matrix, names: list[str] | None, limit: float, title: str) -> str:
    """Cells in blue where deltas agree and in orange where they oppose; named unless small."""
    side = 2.0 if names is None else 4.3
    with mpl.rc_context({**STYLE, "axes.grid": False, "axes.spines.bottom": False}):
        figure, axes = canvas(side, side if names is None else 3.9)
        axes.imshow(_shades(matrix, limit), interpolation="none")
        if len(matrix) <= MOST_NAMES:
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


def _name_axes(axes: Axes, names: list[str]) -> None:
    if not names or len(names) > MOST_NAMES:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{len(names)} agents, in the order of the roster" if names else "")
        return
    labels = [label(name, 14) for name in names]
    few = len(names) <= MOST_NUMBERS
    size, lean = (9.5, {"rotation": 40, "ha": "right"}) if few else (7, {"rotation": 90})
    axes.set_xticks(range(len(names)), labels, fontsize=size, **lean)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    axes.tick_params(length=0)


def _draw_mean(records: list[Mapping[str, Any]]) -> Chart:
    """The mean cosine over pairs by round, in the span from the lowest pair to the highest."""
    matrices, title = [_matrix(record) for record in records], "Cosine of the average pair"
    rounds = np.array([record["round"] for record in records])
    low, middle, high = (
        np.array([pick(matrix) for matrix in matrices])
        for pick in (np.nanmin, np.nanmean, np.nanmax)
    )
    with mpl.rc_context(STYLE):
        figure, axes = canvas(height=3.7)
        axes.fill_between(rounds, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        line(axes, rounds, middle, color=SERIES[0], marker="o")
        round_axis(axes, rounds, "cosine")
        note = "The band spans all pairs."
        return Chart(title, to_svg(figure, title), note, (sign("mean over pairs", 0),))
