"""A cluster of one owner: every agent is a Ray actor. Ray pickles, so trust its whole network."""

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any

import ray
from ray.exceptions import RayActorError

from llmagentos.engines.answering import ATTEMPTS, unbroken_answer
from llmagentos.engines.carrier import Answer, Parcel

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray calls nobody, and does not warn of what it will do in a later version."""


@dataclass(frozen=True)
class Share:
    """What of a machine's CPUs and GPUs an agent takes, in fractions of one."""

    cpus: float = 0.0
    gpus: float = 0.0


class RayCarrier:
    """Carries through Ray; an actor that dies is made again, and gets its body again.

    ``make`` is as for ``ProcessCarrier``. What an actor held in memory dies with it, so an agent
    with a state keeps it on a disk that it finds again. Without ``address`` Ray starts on this
    machine, and ends with the carrier.
    """

    def __init__(
        self,
        make: Callable[[str], Answer],
        agents: Iterable[str],
        share: Share,
        address: str | None = None,
    ) -> None:
        os.environ.update(QUIET)
        on_end = signal.getsignal(signal.SIGTERM)
        ray.init(address, include_dashboard=False, log_to_driver=False, configure_logging=False)
        if current_thread() is main_thread():  # where Ray has put a handler of its own
            signal.signal(signal.SIGTERM, on_end)
        actor = ray.remote(Actor).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )
        self._actors = {agent: actor.remote(make, agent) for agent in agents}
        self._awaited: dict[Any, str] = {}
        self._next: dict[str, bytes] = {}

    def send(self, agent: str, body: bytes) -> None:
        """Hand a body to an agent's actor; one at work gets the newest when it has answered."""
        if agent in self._awaited.values():
            self._next[agent] = body
        else:
            self._awaited[self._actors[agent].answer.remote(body)] = agent

    def poll(self, timeout_s: float | None = None) -> list[Parcel]:
        """An answer that has come in; none, at once, where none is awaited."""
        if not self._awaited:
            return []
        ready, _ = ray.wait(list(self._awaited), num_returns=1, timeout=timeout_s)
        return [self._answered(answer) for answer in ready]

    def _answered(self, answer: Any) -> Parcel:
        agent = self._awaited.pop(answer)
        if agent in self._next:
            self.send(agent, self._next.pop(agent))
        return Parcel(agent, fetched(answer))

    def close(self) -> None:
        """End the actors, and the Ray that was started for them."""
        for actor in self._actors.values():
            ray.kill(actor)
        ray.shutdown()


class Actor:
    """One agent, in a process that Ray places."""

    def __init__(self, make: Callable[[str], Answer], agent: str) -> None:
        self._answer = unbroken_answer(make(agent), agent)

    def answer(self, body: bytes) -> bytes:
        """What the agent makes of a body."""
        return self._answer(body)


def fetched(answer: Any) -> bytes:
    """The bytes of an answer; empty where the body has ended every actor that got it."""
    try:
        body: bytes = ray.get(answer)
    except RayActorError:
        return b""
    return body
