"""All agents in this process, over one shared model."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile

from llmagentos.engines.engine import Reply, Trainer
from llmagentos.errors import DiskFull, LLMAgentOSError
from llmagentos.messages import Failure, Roster, Task, Update, encode, failure

log = logging.getLogger(__name__)


class InProcessEngine:
    """Works when it is polled, so that what was made is journaled before more is made."""

    def __init__(self, trainer: Trainer, roster: Roster) -> None:
        self.trainer = trainer
        self.roster = roster
        self._tasks: deque[Task] = deque()
        self._updates: Iterator[Sequence[Update]] = iter(())

    def renew(self) -> None:
        """Nobody comes or goes."""

    def send(self, task: Task) -> None:
        """Queue a task."""
        self._tasks.append(task)

    def poll(self, timeout_s: float | None = None) -> list[Reply]:  # noqa: ARG002
        """The answer to the oldest task, with those made together with it; or nothing."""
        answers = self._answers() if self._tasks else []
        for _ in answers:
            self._tasks.popleft()
        return [Reply(answer.agent, encode(answer)) for answer in answers]

    def _answers(self) -> Sequence[Update | Failure]:
        """What comes of the oldest task; whatever goes wrong with it concerns that agent alone.

        Except for a full disk, which is the server's too: a resumed run asks again.
        """
        task = self._tasks[0]
        try:
            return [self.trainer.evaluate(task)] if task.kind != "fit" else self._fitted()
        except DiskFull:
            raise
        except LLMAgentOSError as error:
            return [failure(task, str(error))]
        except Exception as error:
            log.exception("agent %r failed in round %d", task.agent, task.round)
            return [failure(task, f"{type(error).__name__}: {error}")]

    def _fitted(self) -> Sequence[Update]:
        """The next updates; the trainer gets all queued tasks when it has none left to answer."""
        updates = next(self._updates, None)
        if updates is None:
            tasks = takewhile(lambda task: task.kind == "fit", self._tasks)
            self._updates = self.trainer.fit(list(tasks))
            updates = next(self._updates)
        return updates

    def close(self) -> None:
        """Forget what was not answered."""
        self._tasks.clear()
        self._updates = iter(())
