"""An agent that takes part in several runs remembers each of them apart."""

from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

from llmagentos.engines.coding import CodingTrainer
from llmagentos.engines.engine import Trainer
from llmagentos.engines.layers import with_memory
from llmagentos.memory import folder_name
from llmagentos.messages import Task, Update


class MemoryByRun:
    """A trainer that remembers in ``folder``, run by run; ``residual_rank`` as in ``with_memory``.

    So a task of another run, late or replayed by whoever holds the wire, takes nothing from this
    one.
    """

    def __init__(self, trainer: Trainer, folder: Path, residual_rank: float = inf) -> None:
        self.trainer = trainer
        self.folder = folder
        self.residual_rank = residual_rank

    def fit(self, tasks: Sequence[Task]) -> Iterator[Sequence[Update]]:
        """The trainer's updates, as its memory of the tasks' one run has it."""
        (run,) = {task.run for task in tasks}
        return self._of(run).fit(tasks)

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics, as its memory of the task's run has it."""
        return self._of(task.run).evaluate(task)

    def _of(self, run: str) -> CodingTrainer:
        return with_memory(self.trainer, self.folder / folder_name(run), self.residual_rank)
