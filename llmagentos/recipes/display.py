"""What a person sees while a run goes on."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llmagentos.report import terminal

Item = TypeVar("Item")


class Display:
    """Progress bars by agent on a terminal, and plain lines everywhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = terminal()
        self.console.quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description:<32}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """No more bars, so that tables stand on lines of their own."""
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print a line above the bars; names and reasons are shown as they are."""
        self.console.print(text, markup=False, soft_wrap=True)

    def track(self, steps: Iterable[Item], what: str) -> Iterator[Item]:
        """The steps themselves, while a bar named ``what`` follows them."""
        steps = list(steps)
        bar = self._progress.add_task(what, total=len(steps))
        try:
            for step in steps:
                yield step
                self._progress.advance(bar)
        finally:
            self._progress.remove_task(bar)
