"""How far a run is, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmagentos.report.progress import Asked, Progress
from llmagentos.report.quantities import ABSENT, count, decimal, duration, label, size

MOST_ROUNDS = 12
"""Closed rounds that are shown, the last ones."""


def status_tables(progress: Progress, name: str, rounds: int, now: float) -> Group:
    """What a person asks of a run; ``now`` is in seconds of the epoch."""
    tables: list[RenderableType] = [Text(headline(progress, name, rounds), style="bold")]
    if progress.reports:
        tables.append(rounds_table(progress.reports))
    if progress.asked:
        over = progress.open_round > rounds
        title = "After the last round" if over else f"Round {progress.open_round}, which is open"
        tables.append(agents_table(title, progress, now))
    return Group(*tables)


def headline(progress: Progress, name: str, rounds: int) -> str:
    """The run's name, whether it goes on, and how many rounds are closed."""
    closed = len(progress.reports)
    over = closed >= rounds and not any(asked.waiting for asked in progress.asked)
    going = "goes on" if progress.live else ("is over" if over else "has stopped; resume it")
    return f"{label(name, 60)} {going}: {closed} of {rounds} rounds closed"


def rounds_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """A row a closed round, the last ones only."""
    table = _table("Closed rounds")
    for heading in ("round", "loss", "counted", "refused", "up", "down", "time"):
        table.add_column(heading, justify="right")
    for report in reports[-MOST_ROUNDS:]:
        table.add_row(
            count(report["round"]),
            decimal(report["loss"], 3),
            count(len(report["weights"])),
            count(len(report["refused"])),
            size(report["bytes_up"]),
            size(report["bytes_down"]),
            duration(report["seconds"]),
        )
    return table


def agents_table(title: str, progress: Progress, now: float) -> Table:
    """What every agent was asked for and answered, and what its earlier rounds came to."""
    table = _table(title)
    for heading in ("agent", "asked for", "answer"):
        table.add_column(heading, overflow="fold")
    for heading in ("held-out loss", "sent in all", "refused in all"):
        table.add_column(heading, justify="right")
    for asked in progress.asked:
        table.add_row(*_agent_cells(asked, progress.reports, now))
    return table


def _agent_cells(
    asked: Asked, reports: Sequence[Mapping[str, Any]], now: float
) -> list[RenderableType]:
    agent = asked.agent
    losses = [report["agents"][agent] for report in reports if agent in report["agents"]]
    sent = sum(report["bytes_by_agent"].get(agent, 0) for report in reports)
    refused = sum(agent in report["refused"] for report in reports)
    return [
        Text(label(agent)),
        asked.kind,
        Text(answer(asked, now)),
        decimal(losses[-1], 3) if losses else ABSENT,
        size(sent),
        count(refused),
    ]


def answer(asked: Asked, now: float) -> str:
    """What came of a task."""
    if asked.refused is not None:
        return f"refused: {label(asked.refused, 160)}"
    if asked.answered:
        return "answered"
    return f"none for {duration(max(now - asked.since, 0.0))}"


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
