"""The picture of how a round grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float]]
"""``across``, and ``single`` and ``cohort`` in ms and ``single_peak`` and ``cohort_peak`` in GB."""

LOOKS = {
    "single": {"label": "one by one", "color": "#D55E00", "marker": "o"},
    "cohort": {"label": "side by side", "color": "#0072B2", "marker": "s"},
}
"""Colours of Okabe and Ito, told apart by shape too."""


def plot(panels: Mapping[str, Curves], path: Path) -> None:
    """Time per agent above and peak memory below, a column for each of the panels."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, len(panels), sharey="row", squeeze=False)
    for (label, curves), (above, below) in zip(panels.items(), axes.T, strict=True):
        for way, look in LOOKS.items():
            above.plot(curves["across"], curves[way], **look)
            below.plot(curves["across"], curves[f"{way}_peak"], **look)
        _scaled(above, curves["across"])
        _scaled(below, curves["across"])
        below.set_xlabel(label)
    for row in axes:
        row[0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("time per agent, ms")
    axes[1, 0].set_ylabel("peak memory, GB")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)


def _scaled(axes: Axes, across: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(across, [f"{x:.0f}" for x in across])
    axes.grid(alpha=0.3)
