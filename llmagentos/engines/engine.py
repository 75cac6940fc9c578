"""What carries tasks to agents and their answers back."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from llmagentos.messages import Roster, Task, Update


class Reply(NamedTuple):
    """The bytes that came from an agent; the engine does not look inside."""

    agent: str
    body: bytes


class Engine(Protocol):
    """Delivers each task at least once; answers come in any order and may come twice.

    Answers that one training made together come in one poll, and are kept together or not at all.
    """

    @property
    def roster(self) -> Roster:
        """The agents that can be asked, with what they declared."""
        ...

    def renew(self) -> None:
        """Before a round: from here on the roster is that of this moment, and stays so."""
        ...

    def send(self, task: Task) -> None:
        """Pass a task to its agent."""
        ...

    def poll(self, timeout_s: float | None = None) -> list[Reply]:
        """What has come in; waits for the first of it, at most ``timeout_s``."""
        ...

    def close(self) -> None:
        """Let go of what carried the messages."""
        ...


class Trainer(Protocol):
    """What agents do with their tasks; it knows their corpora."""

    def fit(self, tasks: Sequence[Task]) -> Iterator[Sequence[Update]]:
        """The changes of the adapter after local training, in the order of the tasks.

        Those that are made together come together. An error is that of the first task that has no
        update; the tasks after it are handed over again.
        """
        ...

    def evaluate(self, task: Task) -> Update:
        """Held-out metrics of the adapter."""
        ...
