"""A trainer around a trainer: tasks change on their way in, updates on their way out."""

from collections.abc import Callable, Iterator, Sequence

from llmagentos.engines.engine import Trainer
from llmagentos.errors import LLMAgentOSError
from llmagentos.messages import Task, Update


def fitted(
    trainer: Trainer,
    tasks: Sequence[Task],
    ready: Callable[[Task], Task],
    done: Callable[[Update, Task], Update],
) -> Iterator[list[Update]]:
    """The trainer's updates of the tasks as ``ready`` makes them, each as ``done`` leaves it.

    They come as the trainer gives them. A task that cannot be made ready is an error once those
    before it have their updates.
    """
    whole: dict[str, Task] = {}
    failed: LLMAgentOSError | None = None
    for task in tasks:
        try:
            whole[task.agent] = ready(task)
        except LLMAgentOSError as error:
            failed = error
            break
    for updates in trainer.fit(list(whole.values())) if whole else ():
        yield [done(update, whole[update.agent]) for update in updates]
    if failed is not None:
        raise failed
