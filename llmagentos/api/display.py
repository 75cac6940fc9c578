"""What a person sees while rounds are played."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llmagentos.report import round_line
from llmagentos.round_report import RoundReport

Show = Callable[[RoundReport], None]


@contextmanager
def round_bar(played: int, rounds: int, *, verbose: bool) -> Iterator[Show]:
    """A bar that follows the reports it is shown, on a terminal or in a notebook."""
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    off = not (verbose and (console.is_terminal or console.is_jupyter))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=off
    ) as bars:
        bar = bars.add_task("training", total=rounds, completed=played)

        def show(report: RoundReport) -> None:
            line = round_line(vars(report), rounds=rounds)
            bars.update(bar, completed=report.round, description=line)

        yield show


def summary_line(reports: Sequence[RoundReport], first: int) -> str:
    """What the rounds came to, in one line; those before round ``first`` had been played before."""
    if not reports:
        return "no round was left to play"
    losses = [fmean(r.train_loss.values()) for r in (reports[0], reports[-1]) if r.train_loss]
    course = " -> ".join(f"{loss:.4g}" for loss in losses)
    seconds = sum(report.seconds for report in reports)
    played = f"rounds {reports[0].round} to {reports[-1].round}"
    kept = sum(report.round < first for report in reports)
    if kept:
        played += f" ({kept} of {len(reports)} were played before)"
    counted = len(reports[-1].weights)
    who = "1 client" if counted == 1 else f"{counted} clients"
    return f"{played}, {who}: training loss {course} in {seconds:.1f} s"
