"""The tables that a terminal, or the file that it is piped to, shows at the end of a run."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from llmagentos.report.lines import totals_lines
from llmagentos.report.personal import (
    Standing,
    overall_standing,
    personal_reading,
    standings,
)
from llmagentos.report.quantities import (
    ABSENT,
    count,
    decimal,
    label,
    percent,
    printable,
    rounded,
)
from llmagentos.report.result import (
    OVERALL,
    Change,
    Rival,
    changes,
    local_mean,
    overall,
    reading,
    rivals,
)

MOST_SILOS = 6
"""Columns of the comparison; with more silos it keeps the means only."""
MOST_AGENTS = 40
"""Rows of a table; of more agents the first are shown, and ``report.html`` has all."""
_SCORES = ("agent", "tokens", "loss", "change", "perplexity", "accuracy")


def terminal(file: TextIO | None = None) -> Console:
    """A console as wide as its terminal, or 100 columns without colour codes in a pipe."""
    stream = file or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 100, highlight=False)


def result_tables(summary: Mapping[str, Any]) -> list[RenderableType]:
    """The silos, before and after, and the comparison with its reading where there is one."""
    tables: list[RenderableType] = [silo_table(summary["silos"])] if summary.get("silos") else []
    tables.append(before_after_table(changes(summary)))
    if own := standings(summary):
        tables.append(standing_table(own))
        tables += [Text("\n".join(said)) for said in [personal_reading(own)] if said]
    rows = rivals(summary)
    return [*tables, comparison_table(rows), Text("\n".join(reading(rows)))] if rows else tables


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """The end of a run: tables, a sample answer, seconds, bytes and how to load the adapter."""
    for renderable in result_tables(summary):
        console.print(renderable, markup=False)
        console.print()
    if summary.get("sample"):
        console.print(sample_table(summary["sample"]))
        console.print()
    for line in totals_lines(summary):
        console.print(line, markup=False)
    console.print()
    for line in summary["load"].splitlines():
        console.print(Text(line), soft_wrap=True)


def before_after_table(rows: Sequence[Change]) -> Table:
    """Held-out loss, perplexity and accuracy of every agent and on the mean."""
    table = _table("Held-out text, before and after", _SCORES, agents=len(rows))
    for row in rows[:MOST_AGENTS]:
        table.add_row(*_change_cells(row))
    table.add_section()
    table.add_row(*_change_cells(overall(rows)), style="bold")
    return table


def _change_cells(row: Change) -> list[RenderableType]:
    cells = [
        count(row.tokens),
        _from_to(*(decimal(loss) for loss in row.loss)),
        percent(row.relative, "+"),
        _from_to(*(rounded(value) for value in row.perplexity)),
        _from_to(*(percent(share) for share in row.accuracy)),
    ]
    return [Text(label(row.agent)), *cells]


def _from_to(before: str, after: str) -> str:
    return f"{before} → {after}"


def comparison_table(rows: Sequence[Rival]) -> Table:
    """Held-out loss of every way to train (rows) on every silo (columns).

    Beyond ``MOST_SILOS`` silos the means only; the report spells out the rest.
    """
    few = len(rows[0].losses) <= MOST_SILOS
    silos = list(rows[0].losses) if few else []
    title = "Held-out loss by adapter (row) and silo (column)" if few else "Held-out loss"
    table = _table(title, ["adapter", "own", "others", *(label(silo, 14) for silo in silos)])
    for row in rows if few else (row for row in rows if not row.home):
        losses = (decimal(row.losses[silo]) for silo in silos)
        table.add_row(Text(label(row.name)), decimal(row.own), decimal(row.others), *losses)
    table.add_section()
    means = (decimal(value) for value in local_mean(rows))
    table.add_row("local, mean", *means, style="bold")
    return table


def standing_table(rows: Sequence[Standing]) -> Table:
    """Held-out loss of the shared, the personal and the local-only adapters, at home and away."""
    local = any(row.home.local is not None for row in rows)
    kinds = ("shared", "personal", "local")[: 3 if local else 2]
    headings = ["agent", *(f"{where}: {kind}" for where in ("own", "others") for kind in kinds)]
    table = _table("Held-out loss of shared and personal adapters", headings, agents=len(rows))
    for row in (*rows[:MOST_AGENTS], overall_standing(rows)):
        if row.agent == OVERALL:
            table.add_section()
        losses = (getattr(place, kind) for place in (row.home, row.away) for kind in kinds)
        table.add_row(Text(label(row.agent)), *map(decimal, losses))
    return table


def silo_table(silos: Sequence[Mapping[str, Any]]) -> Table:
    """How much text each agent holds, and how it differs from the others'."""
    headings = [label(heading.replace("_", " ")) for heading in silos[0]]
    table = _table("Silos", headings, agents=len(silos))
    for silo in silos[:MOST_AGENTS]:
        table.add_row(*(Text(silo_cell(silo.get(heading))) for heading in silos[0]))
    return table


def silo_cell(value: Any) -> str:
    """Counts in full, shares to three significant digits, words on one line."""
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, int):
        return count(value)
    return ABSENT if value is None else label(value)


def sample_table(sample: Mapping[str, Any]) -> Group:
    """One prompt, the answer that was expected, and the model's, before and after."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for part in ("prompt", "expected", "before", "after"):
        if sample.get(part) is not None:
            table.add_row(part, Text(printable(sample[part])))
    agent = f" of {label(sample['agent'])}" if sample.get("agent") else ""
    return Group(Text(f"Sample answer{agent}, before and after", style="italic"), table)


def _table(title: str, headings: Sequence[str], agents: int = 0) -> Table:
    """Names on the left, numbers on the right; what a terminal is too narrow for is folded."""
    left_out = agents - MOST_AGENTS
    table = Table(
        title=Text(title),
        title_justify="left",
        caption=f"and {count(left_out)} more agents" if left_out > 0 else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in headings:
        justify: JustifyMethod = "right" if table.columns else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold")
    return table
