"""All agents in this process, one after the other, over one shared model."""

import logging
from collections import deque

from llmagentos.engines.engine import Reply, Trainer
from llmagentos.errors import LLMAgentOSError
from llmagentos.messages import Failure, Roster, Task, Update, encode, failure

log = logging.getLogger(__name__)


class InProcessEngine:
    """Answers each task when it is polled, so that every answer is journaled before the next."""

    def __init__(self, trainer: Trainer, roster: Roster) -> None:
        self.trainer = trainer
        self.roster = roster
        self._tasks: deque[Task] = deque()

    def send(self, task: Task) -> None:
        """Queue a task."""
        self._tasks.append(task)

    def poll(self, timeout_s: float | None = None) -> list[Reply]:  # noqa: ARG002
        """The answer to the oldest task; nothing when none is queued."""
        if not self._tasks:
            return []
        task = self._tasks.popleft()
        return [Reply(task.agent, encode(self._answer(task)))]

    def _answer(self, task: Task) -> Update | Failure:
        """What the agent makes of a task; whatever goes wrong with it concerns that agent alone."""
        work = self.trainer.fit if task.kind == "fit" else self.trainer.evaluate
        try:
            return work(task)
        except LLMAgentOSError as error:
            return failure(task, str(error))
        except Exception as error:
            log.exception("agent %r failed in round %d", task.agent, task.round)
            return failure(task, f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Forget what was not answered."""
        self._tasks.clear()
