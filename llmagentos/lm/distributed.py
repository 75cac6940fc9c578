"""Several processes as one agent: the first one hears of a task, all of them work on it.

Started by ``python -m torch.distributed.run --nproc-per-node N`` or, on GPUs, by ``accelerate
launch``. Only the first process owns journal and engine; the others follow it.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch.distributed as dist
from accelerate import PartialState

from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update

Tuner = LoraTrainer | CohortTrainer

PATIENCE = timedelta(days=30)
"""How long a process waits for the next task; other agents may be slow."""


class Leader:
    """The first process's trainer: it shares every task with the others before doing its part.

    With one process it is the trainer, no more. Used as ``with``: the others stop at its end.
    """

    def __init__(self, trainer: Tuner) -> None:
        self.trainer = trainer
        self._channel = _open_channel()

    def fit(self, tasks: Sequence[Task]) -> Iterator[Sequence[Update]]:
        """The updates of all processes together, one at a time; with one, as the trainer's come."""
        if self._channel is None:
            yield from self.trainer.fit(tasks)
        else:
            for task in tasks:
                yield [self._work(task)]

    def evaluate(self, task: Task) -> Update:
        """The metrics of all processes together."""
        return self._work(task)

    def _work(self, task: Task) -> Update:
        _share(task, self._channel)
        try:
            return _work(self.trainer, task)
        except (RuntimeError, MemoryError) as error:
            if self._channel is None:
                raise
            raise SystemExit(f"one process of agent {task.agent} failed: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Stop the others; after an error the launcher does."""
        if kind is None:
            _share(None, self._channel)


def follow(trainer: Tuner) -> None:
    """Work on what the first process shares until it stops; for every process but the first."""
    channel = _open_channel()
    while (task := _share(None, channel)) is not None:
        _work(trainer, task)


def _work(trainer: Tuner, task: Task) -> Update:
    return trainer.update(task) if task.kind == "fit" else trainer.evaluate(task)


def _open_channel() -> dist.ProcessGroup | None:
    """A way to send tasks that waits longer than a gradient may; none for a single process."""
    if PartialState().num_processes == 1:
        return None
    channel: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=PATIENCE)
    return channel


def _share(task: Task | None, channel: dist.ProcessGroup | None) -> Task | None:
    """The first process's task, on all of them; ``None`` stops."""
    message = [task]
    if channel is not None:
        dist.broadcast_object_list(message, src=0, group=channel)
    return message[0]
