"""How long a question waits for its answers."""

from collections.abc import Callable, Iterable
from math import inf


class Patience:
    """A deadline for all answers together, and the silence after which an agent is asked again.

    Both in seconds, None for ever, by a clock that only goes forward. It begins when it is made,
    so a server that is started again waits anew.
    """

    def __init__(
        self, deadline_s: float | None, resend_s: float | None, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._end = clock() + (inf if deadline_s is None else deadline_s)
        self._silence = inf if resend_s is None else resend_s
        self._due: dict[str, float] = {}

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self._end

    def due(self, agents: Iterable[str]) -> list[str]:
        """Those of the agents that are to be asked now, from when on their silence counts."""
        start = self._clock()
        due = [agent for agent in agents if self._due.get(agent, -inf) <= start]
        self._due |= dict.fromkeys(due, start + self._silence)
        return due

    def again(self, agent: str) -> None:
        """The agent is due at once."""
        self._due.pop(agent, None)

    def left(self, agents: Iterable[str]) -> float | None:
        """Seconds until the deadline, or until one of the agents is due; None where neither is."""
        next_ = min([self._end, *(self._due[agent] for agent in agents)])
        return None if next_ == inf else max(0.0, next_ - self._clock())
