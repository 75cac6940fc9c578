"""Agents that take their time, on a clock that jumps from one answer to the next."""

import heapq
from collections.abc import Mapping
from itertools import count

from llmagentos.engines.engine import Engine, Reply
from llmagentos.messages import Roster, Task


class PacedEngine:
    """Passes on what another engine carries, in the order in which agents of given speeds finish.

    ``fit_s`` is how many seconds of ``clock`` an agent trains; evaluations take none, but begin
    when it is free. Nobody waits in truth. Of those that finish at the same time the one that was
    asked first comes first.
    """

    def __init__(self, engine: Engine, fit_s: Mapping[str, float]) -> None:
        self.engine = engine
        self.fit_s = fit_s
        self._now = 0.0
        self._free: dict[str, float] = {}
        self._finish: list[tuple[float, int, Task]] = []
        self._numbers = count()

    @property
    def roster(self) -> Roster:
        """That of the other engine."""
        return self.engine.roster

    def renew(self) -> None:
        """That of the other engine is renewed."""
        self.engine.renew()

    def clock(self) -> float:
        """Seconds since the start: when the last answer came."""
        return self._now

    def send(self, task: Task) -> None:
        """The agent begins when it has finished what it was asked before."""
        begin = max(self._now, self._free.get(task.agent, 0.0))
        self._free[task.agent] = begin + (self.fit_s[task.agent] if task.kind == "fit" else 0.0)
        heapq.heappush(self._finish, (self._free[task.agent], next(self._numbers), task))

    def poll(self, timeout_s: float | None = None) -> list[Reply]:
        """The answer of whoever is ready first."""
        if not self._finish:
            return []
        self._now, _, task = heapq.heappop(self._finish)
        self.engine.send(task)
        return self.engine.poll(timeout_s)

    def close(self) -> None:
        """Forget what was not answered."""
        self._finish.clear()
        self.engine.close()
