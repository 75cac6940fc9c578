"""A federation small enough to check on paper: f1 = x^2/2 and f2 = 2(x-1)^2, optimum 0.8."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np

from llmagentos.adapter import Adapter
from llmagentos.engines import InProcessEngine, Reply, with_memory
from llmagentos.federation import Federation, Plan
from llmagentos.journal import Journal
from llmagentos.layout import Layout
from llmagentos.messages import Enrolled, Task, Update, answer
from llmagentos.state import ServerState
from llmagentos.strategies import fedavg
from tests.leaving import left

CURVATURE = {"north": (1.0, 0.0), "south": (4.0, 1.0)}
"""Agent to (c, x*): its loss is c/2 (x - x*)^2."""

FIVE = CURVATURE | {"east": (2.0, -1.0), "west": (1.0, 3.0), "centre": (3.0, 2.0)}
"""As many agents as every rule needs that tolerates one liar."""


@dataclass
class Quadratic:
    """Plain gradient descent, ``steps`` of ``lr``, pulled by ``mu`` to an anchor or the start.

    What a task says of steps and mu goes before; what it says of lr has to be so.
    """

    steps: int = 10
    mu: float = 0.0
    lr: float = 0.1
    curvature: Mapping[str, tuple[float, float]] = field(default_factory=lambda: CURVATURE)

    def fit(self, tasks: list[Task]) -> Iterator[list[Update]]:
        for task in tasks:
            yield [self.update(task)]

    def update(self, task: Task) -> Update:
        c, best = self.curvature[task.agent]
        start = task.vectors["adapter"].astype(np.float64)
        anchor = task.vectors.get("anchor", start).astype(np.float64)
        steps, mu = task.settings.get("steps", self.steps), task.settings.get("mu", self.mu)
        linear = np.asarray(task.vectors.get("linear", 0.0), np.float64)
        x = start.copy()
        for _ in range(steps):
            x -= self.lr * (c * (x - best) + mu * (x - anchor) + linear)
        delta = (x - start).astype(np.float32)
        return answer(task, vectors={"delta": delta}, metrics={"step_weight": float(steps)})

    def evaluate(self, task: Task) -> Update:
        c, best = self.curvature[task.agent]
        return answer(
            task, metrics={"loss": float((c / 2 * (task.vectors["adapter"] - best) ** 2)[0])}
        )


class Shuffled(InProcessEngine):
    """Answers everything at once, in random order, and some of it twice, some of it late."""

    def __init__(self, trainer, roster, seed=0):
        super().__init__(trainer, roster)
        self.random = Random(seed)
        self.sent: list[Reply] = []

    def poll(self, timeout_s=None):
        replies = []
        while self._tasks:
            replies += super().poll()
        self.sent += replies
        replies += self.random.sample(self.sent, len(self.sent) // 2)
        self.random.shuffle(replies)
        return replies


def layout_of_size(size: int) -> Layout:
    return Layout.order({"x": (size,)})


def first_state(values=(5.0,)) -> ServerState:
    vector = np.array(values, np.float32)
    return ServerState(1, Adapter(layout_of_size(len(vector)), vector))


ROSTER = {name: Enrolled() for name in CURVATURE}


def agents(folder, trainer=None):
    """Agents that keep what their corrections need in ``folder``, and send it coded."""
    return with_memory(trainer or Quadratic(), folder / "agents")


def federation(  # noqa: PLR0913
    folder, *, strategy=None, engine=None, trainer=None, rounds=3, fit=None, **plan
):
    """A federation of the two quadratics with its journal in ``folder``; ``fit`` tells agents."""
    journal = left(Journal(folder))
    run = journal.begin(layout_of_size(1), {}, first_state)
    settings = {"fit": {"lr": 0.1, **(fit or {})}, "evaluate": {}}
    return Federation(
        strategy or fedavg(),
        engine or InProcessEngine(agents(folder, trainer), ROSTER),
        journal,
        Plan(run=run, rounds=rounds, weighting="uniform", settings=settings, **plan),
    )
