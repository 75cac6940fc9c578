"""The server's end over Flower: parcels lie in a folder until a relay has carried them."""

import logging
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path

from llmagentos.engines.carrier import Parcel
from llmagentos.engines.flower.link import Address, Link
from llmagentos.engines.flower.tray import Tray, short_name

log = logging.getLogger(__name__)

POLL_S = 0.2

PATIENCE_S = 30.0
"""A relay that shows no sign of life for this long is replaced by another Flower run."""

RECOVERY_S = 5.0
"""So long after the SuperLink was started again another Flower run carries what is under way."""


class FlowerCarrier:
    """Carries through a SuperLink of its own; ``keys`` are the agents' public node keys.

    A body stays in the folder until its answer has come, or a newer body for the same agent, so it
    survives nodes, SuperLink and run.
    """

    def __init__(self, folder: Path, address: Address, keys: Mapping[str, Path]) -> None:
        self.link = Link(folder, address, keys)
        self._agents = {short_name(agent): agent for agent in keys}
        self._out, self._back = Tray(folder / "out"), Tray(folder / "back")
        self._out.clear()
        self._back.clear()
        self._sent = 0
        self._awaited: dict[str, str] = {}
        self._beat, self._seen, self._again = 0.0, -inf, inf

    def send(self, agent: str, body: bytes) -> None:
        """Leave a body for the relay; older ones are sent no more, but may still be answered."""
        for older in self._of(agent):
            self._out.drop(older)
        name = f"{short_name(agent)}-{self._sent:08}"
        self._sent += 1
        self._awaited[name] = agent
        self._out.put(name, body)

    def _of(self, agent: str) -> list[str]:
        """The names of an agent's bodies that are awaited, oldest first."""
        return [name for name, whose in self._awaited.items() if whose == agent]

    def poll(self, timeout_s: float | None = None) -> list[Parcel]:
        """The oldest answer that has come in; none, at once, where none is awaited."""
        end = inf if timeout_s is None else time.monotonic() + timeout_s
        while self._awaited:
            self.tend()
            for name in self._back.names():
                parcels = self._take(name)
                if parcels:
                    return parcels
            if time.monotonic() >= end:
                break
            time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
        return []

    def _take(self, name: str) -> list[Parcel]:
        """What came back under a name, unless it or a newer body's answer was taken before."""
        body = self._back.read(name)
        self._back.drop(name)
        agent = self._awaited.get(name)
        if agent is None:
            return []
        names = self._of(agent)
        for settled in names[: names.index(name) + 1]:
            self._out.drop(settled)
            del self._awaited[settled]
        return [Parcel(agent, body)]

    def tend(self) -> None:
        """Start again what has died, and another run where no relay has been seen for a while.

        There is another run after a restart too: a node that was sending its answer at that moment
        may have given it up, and nobody else would ask for it again.
        """
        if self.link.tend():
            self._again = time.monotonic() + RECOVERY_S
        beat = self.link.folder / "beat"
        latest = beat.stat().st_mtime if beat.exists() else 0.0
        if latest != self._beat:
            self._beat, self._seen = latest, time.monotonic()
        if time.monotonic() > min(self._seen + PATIENCE_S, self._again):
            self._seen, self._again = time.monotonic(), inf
            self._submit()

    def _submit(self) -> None:
        try:
            self.link.submit()
            log.info("a Flower run carries what is under way")
        except ConnectionError as error:
            log.warning("no Flower run yet, tried again in %g s: %s", PATIENCE_S, error)

    def close(self) -> None:
        """End the server's Flower processes."""
        self.link.close()
