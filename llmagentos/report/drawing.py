"""Figures as inline SVG whose text and colours follow the page.

Matplotlib knows no CSS, so it draws in the stand-in colours below, and ``to_svg`` puts the page's
custom properties in their place; text stays text. The same figure gives the same bytes.
"""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from llmagentos.report.records import Course

INK, MUTED, GRID, CARD = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0101{number:02x}" for number in range(0x10, 0x18))
"""Eight colours that eyes without red or green tell apart; the page says which."""
GLYPHS = tuple("●■▲◆▼✚✖★")
MARKERS = tuple("os^DvPX*")
"""The same eight signs for the legend and for the lines."""
MOST_BARS = 40
"""Rounds that are drawn as bars; more of them as lines."""

CSS_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", CARD: "var(--card)"}
CSS_COLOURS |= {colour: f"var(--s{number})" for number, colour in enumerate(SERIES)}

WIDTH = 5.3
"""Inches; a card on a desktop page is a little wider, one on a phone a little narrower."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llmagentos",
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.markersize": 4.5,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Sign:
    """One entry of a legend: a glyph in a series' colour, and what it stands for."""

    name: str
    glyph: str
    css: str


@dataclass(frozen=True)
class Chart:
    """One drawing of the page, with its heading, its legend and what a reader should know."""

    title: str
    svg: str
    note: str = ""
    legend: tuple[Sign, ...] = ()


def sign(name: str, series: int, glyph: str | None = None) -> Sign:
    """The legend's entry of a series."""
    return Sign(name, glyph or GLYPHS[series], CSS_COLOURS[SERIES[series]])


def canvas(width: float = WIDTH, height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty drawing, in inches, with one pair of axes; draw inside ``mpl.rc_context(STYLE)``."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def line(axes: Axes, rounds: NDArray[np.int64], course: Course, **look: Any) -> None:
    """The measured points, joined over the rounds without one; about a dozen are marked."""
    there = np.isfinite(course)
    drawn: dict[str, Any] = {"linewidth": 0.9 if len(rounds) > 100 else 1.6} | look
    axes.plot(rounds[there], course[there], markevery=max(1, int(there.sum()) // 12), **drawn)


def round_axis(axes: Axes, rounds: NDArray[np.int64], unit: str) -> None:
    """Whole rounds from left to right, a few of them named; ``unit`` names the other axis."""
    axes.set_xlabel("round")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    if len(rounds):
        margin = max(0.6, 0.01 * len(rounds))
        axes.set_xlim(rounds[0] - margin, rounds[-1] + margin)


def bar_width(rounds: int) -> float:
    """Width of a round's bar, in rounds; a run of few rounds gets no walls."""
    return min(0.7, 0.15 + 0.07 * rounds)


def to_svg(figure: Figure, title: str) -> str:
    """The drawing as an SVG element without namespaces.

    ``title`` is what a screen reader says in its place, and keeps its ids apart from those of the
    page's other drawings.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():  # the browser has the letters that the measuring font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 (drawn just above)
    prefix = re.sub(r"\W+", "-", title.lower())
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _attribute(key, value, prefix)
            for key, value in element.attrib.items()
        }
    root.attrib |= {"role": "img", "aria-label": title}
    for size in ("width", "height"):
        del root.attrib[size]
    for defs in root.findall("defs"):
        if defs.find("style") is not None:
            root.remove(defs)
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, prefix: str) -> str:
    """An attribute with ids made unique, points to two digits, and the page's colours."""
    if key == "id":
        return f"{prefix}-{value}"
    if key == "d":
        return re.sub(r"(\.\d\d)\d+", r"\1", value)
    if key.endswith("href"):
        return value.replace("#", f"#{prefix}-") if value.startswith("#") else value
    for colour, css in CSS_COLOURS.items():
        value = value.replace(colour, css)
    return value.replace("url(#", f"url(#{prefix}-")
