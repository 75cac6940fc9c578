"""What the finished cells of `lora_methods.py` say, as Markdown and as a plot."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
from lora_cells import Cell, Cells, Found
from lora_plan import Scope, away, home, missing, rates, slots, tried
from matplotlib.axes import Axes


@dataclass(frozen=True)
class Row:
    """A method with what its seeds have shown at its learning rate, by seed."""

    method: str
    lr: float
    tried: int
    """How many of its learning rates are known."""
    rates: int
    """How many it tries."""
    found: dict[int, Found]

    def each(self, measure: Callable[[Found], float]) -> list[float]:
        """A measure of every seed."""
        return [measure(found) for found in self.found.values()]


Rows = list[Row]


def rows_of(cells: Cells, corpus: str, agents: int, scope: Scope) -> Rows:
    """The methods that have a cell, each at the best of the rates that are known so far."""
    rows = []
    for method in scope.methods:
        losses = tried(cells, method, scope)
        if losses:
            lr = min(losses, key=losses.__getitem__)
            named = {seed: Cell(corpus, agents, method, lr, seed) for seed in scope.seeds}
            found = {seed: cells[cell] for seed, cell in named.items() if cell in cells}
            rows += [Row(method, lr, len(losses), len(rates(cells, method, scope)), found)] * bool(
                found
            )
    return rows


def settings(cells: Cells, scope: Scope) -> Iterator[tuple[str, int, Rows]]:
    """Corpora and numbers of agents of which there are cells, with their rows."""
    for agents, corpus in product((scope.few, scope.many), scope.size.corpora):
        rows = rows_of(cells, corpus, agents, scope)
        if rows:
            yield corpus, agents, rows


def table(cells: Cells, scope: Scope) -> str:
    """A Markdown table for every corpus and number of agents, and how many cells are missing."""
    left = len(missing(cells, scope))
    known = sum(1 for _ in slots(cells, scope)) - left
    parts = [f"{known} cells are computed, {left} are missing."]
    for corpus, agents, rows in settings(cells, scope):
        naive = next((row for row in rows if row.method == "naive"), None)
        lines = [_line(row, naive, agents, scope) for row in rows]
        parts.append("\n".join([f"### {corpus}, {agents} agents\n", *HEAD, *lines]))
    return "\n\n".join(parts)


TITLES = (
    "method",
    "rate",
    "seeds",
    "own silo",
    "others' silos",
    "shared adapter",
    "own silo, less naive",
    "product error",
    "MB up / down",
    "s a round",
)
HEAD = (f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|")


def _line(row: Row, naive: Row | None, agents: int, scope: Scope) -> str:
    """Bytes are those of an agent and a round after the first, seconds those of all agents."""
    cells = [
        row.method,
        _rate(row),
        str(len(row.found)),
        spread(row.each(home)),
        spread(row.each(away)),
        _shared(row),
        _less(row, naive),
        _share(row.found.values()),
        _traffic(row.found.values(), agents),
        _seconds(row.found.values(), scope),
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation of one value a seed; a single one has no spread."""
    if not all(map(isfinite, values)):
        return "failed"
    told = f"{fmean(values):{sign}.3f}"
    return f"{told} ± {stdev(values):.3f}" if len(values) > 1 else told


def _shared(row: Row) -> str:
    """The loss on all silos of what all agents have, where they have adapters of their own too."""
    both = [found for found in row.found.values() if {"shared", "personal"} <= found.keys()]
    return spread([fmean(found["shared"].values()) for found in both]) if both else ""


def _rate(row: Row) -> str:
    if row.rates == 1:
        return "-"
    known = row.tried == row.rates
    return f"{row.lr:g}" + ("" if known else f" ({row.tried} of {row.rates} tried)")


def _less(row: Row, naive: Row | None) -> str:
    """The difference by seed, so that what a seed has easy or hard drops out."""
    if naive is None or row is naive:
        return ""
    common = [seed for seed in row.found if seed in naive.found]
    apart = [home(row.found[seed]) - home(naive.found[seed]) for seed in common]
    return spread(apart, "+") if apart else ""


def _share(found: Sequence[Found]) -> str:
    """The product error of the last round."""
    last = [each["product_error"][-1] for each in found if "product_error" in each]
    return f"{fmean(last):.1e}" if last and None not in last else "-"


def _traffic(found: Sequence[Found], agents: int) -> str:
    ways = [
        fmean(size for each in found for size in each[way][1:]) / agents / 1e6
        for way in ("bytes_up", "bytes_down")
        if all(way in each for each in found)
    ]
    return " / ".join(f"{each:.2f}" for each in ways) or "-"


def _seconds(found: Sequence[Found], scope: Scope) -> str:
    spent = [each["rounds_cpu_s"] / scope.size.rounds for each in found if "rounds_cpu_s" in each]
    return f"{fmean(spent):.1f}" if spent else "-"


def draw(cells: Cells, scope: Scope, path: Path) -> None:
    """Loss at home and away: a row of panels for every number of agents, one for every corpus."""
    shown = {(corpus, agents): rows for corpus, agents, rows in settings(cells, scope)}
    sizes = [agents for agents in (scope.few, scope.many) if agents in {a for _, a in shown}]
    corpora = list(scope.size.corpora)
    methods = {n: [m for m in scope.methods if _has(shown, m, n)] for n in sizes}
    heights = [2 + len(methods[agents]) for agents in sizes]
    figure, axes = plt.subplots(
        len(sizes),
        len(corpora),
        figsize=(5 * len(corpora), 0.8 + 0.26 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for (agents, corpus), each in zip(product(sizes, corpora), axes.flat, strict=True):
        panel(each, shown.get((corpus, agents), []), methods[agents])
        each.set_visible((corpus, agents) in shown)
        each.set_title(f"{corpus}, {agents} agents", loc="left", fontsize=10)
    handles = axes.flat[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _has(shown: dict[tuple[str, int], Rows], method: str, agents: int) -> bool:
    """Whether a method that trains has a cell with so many agents."""
    named = [row.method for (_, many), rows in shown.items() if many == agents for row in rows]
    return method != "base" and method in named


def panel(axes: Axes, rows: Rows, methods: Sequence[str]) -> None:
    """A line for every method, its mean and its seeds; a rule where naive averaging is."""
    found = {row.method: row for row in rows if row.method in methods}
    places = [methods.index(method) for method in found]
    for measure, color, label in ((home, "tab:blue", "own silo"), (away, "tab:red", "others'")):
        inside = color if measure is home else "none"
        style = {"edgecolors": color, "facecolors": inside, "label": label, "zorder": 3}
        means = [fmean(row.each(measure)) for row in found.values()]
        axes.scatter(means, places, s=30 if measure is home else 90, **style)
        for place, row in zip(places, found.values(), strict=True):
            axes.scatter(row.each(measure), [place] * len(row.found), s=30, marker="|", color=color)
    if "naive" in found:
        axes.axvline(fmean(found["naive"].each(home)), color="grey", lw=0.8, ls=":", label="naive")
    axes.set_yticks(range(len(methods)), methods, fontsize=8)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel("held-out loss, nats a target token", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", lw=0.3)
