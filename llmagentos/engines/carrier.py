"""What moves bytes between the server and the agents; it looks into nothing."""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Parcel(NamedTuple):
    """Bytes on their way to an agent or from one."""

    agent: str
    body: bytes


class Carrier(Protocol):
    """Delivers at least once while the agent can be reached; what comes back may repeat.

    A body that still waits may give way to a newer one for the same agent.
    """

    def send(self, agent: str, body: bytes) -> None:
        """Pass the bytes to an agent; never blocks for long."""
        ...

    def poll(self, timeout_s: float | None = None) -> list[Parcel]:
        """What has come in; waits for the first of it, at most ``timeout_s``."""
        ...

    def close(self) -> None:
        """Let go of what carried the bytes."""
        ...


Answer = Callable[[bytes], bytes]
"""What an agent makes of what was carried to it."""
