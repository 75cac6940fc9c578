"""What a federation is made of."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmagentos.engines import Engine
from llmagentos.journal import Journal
from llmagentos.messages import Kind
from llmagentos.strategies import Strategy


@dataclass(frozen=True)
class Plan:
    """How long a run is, its seed, who counts for how much, and what agents are told.

    ``settings`` are those of the tasks by kind; without ``evaluate`` rounds are not evaluated, with
    it those that ``evaluate_every`` divides.
    ``by_agent`` is where an agent's fit tasks differ from the others'.
    ``spare``, ``deadline_s``, ``resend_s`` and ``buffer`` are those of ``ServerSettings``.
    """

    run: str
    rounds: int
    seed: int = 0
    quorum: float = 0.5
    weighting: str = "examples"
    spare: float = 0.0
    deadline_s: float | None = None
    resend_s: float | None = None
    buffer: int = 1
    evaluate_every: int = 1
    settings: Mapping[Kind, Mapping[str, Any]] = field(default_factory=dict)
    by_agent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Federation:
    """The parts of a run: an algorithm, who carries its messages, what remembers, and the plan.

    ``clock`` gives seconds that only grow.
    """

    strategy: Strategy
    engine: Engine
    journal: Journal
    plan: Plan
    clock: Callable[[], float] = time.monotonic
