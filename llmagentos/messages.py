"""All that travels between the server and the agents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmagentos.adapter import Layout, Vector

Kind = Literal["fit", "evaluate", "measure"]
"""``fit`` trains; ``evaluate`` reads a few held-out rows, ``measure`` more of them."""


@dataclass(frozen=True)
class Task:
    """What one agent is asked to do, with the vectors that it needs.

    ``vectors["adapter"]`` is the global adapter, ``(d,)`` float32 in the order of ``layout``.
    ``settings`` says how: the fields of ``LocalSettings`` for ``fit``, ``rows`` and ``batch`` for
    the two evaluations. ``receipt`` is the last round of this agent that was counted.
    """

    run: str
    round: int
    kind: Kind
    agent: str
    vectors: Mapping[str, Vector]
    layout: Layout
    seed: int
    receipt: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """An agent's answer: ``vectors["delta"]`` is local minus global, ``(d,)`` float32.

    ``weight`` is what the agent counts for in an average; ``metrics`` are plain numbers.
    """

    run: str
    round: int
    kind: Kind
    agent: str
    layout: str
    """Hash of the layout that the vectors follow."""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why an agent has no update in a round: an absent agent is data, not an exception."""

    run: str
    round: int
    kind: Kind
    agent: str
    reason: str


def answer(task: Task, **fields: Any) -> Update:
    """The update that answers a task, with its run, round, kind, agent and layout."""
    return Update(task.run, task.round, task.kind, task.agent, task.layout.hash, **fields)


def failure(task: Task, reason: str) -> Failure:
    """The failure that answers a task."""
    return Failure(task.run, task.round, task.kind, task.agent, reason)
