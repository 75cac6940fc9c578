"""What carries tasks to agents and their answers back."""

from typing import NamedTuple, Protocol

from llmagentos.messages import Roster, Task, Update


class Reply(NamedTuple):
    """The bytes that came from an agent; the engine does not look inside."""

    agent: str
    body: bytes


class Engine(Protocol):
    """Delivers each task at least once; answers come in any order and may come twice."""

    @property
    def roster(self) -> Roster:
        """The agents that can be asked, with what they declared."""
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
    """What an agent does with a task; it knows its own corpus."""

    def fit(self, task: Task) -> Update:
        """The change of the adapter after local training."""
        ...

    def evaluate(self, task: Task) -> Update:
        """Held-out metrics of the adapter."""
        ...
