"""Adapters of an agent's own: what each computes with, and how a round trains it.

Of a task with a shared adapter they make one with the agent's own in its place, which the same
trainer answers. All vectors are ``(d,)`` float32 in the layout of the task but for a residual.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llmagentos.adapter import initial_vector
from llmagentos.aggregation import joined
from llmagentos.layout import Vector
from llmagentos.messages import Task
from llmagentos.settings import asked_personal


@dataclass(frozen=True)
class Personal:
    """One way to have an adapter of one's own beside the shared one."""

    first: Callable[[Task], Vector]
    """The own vector before the agent's first round."""
    vectors: Callable[[Task, Vector], dict[str, Vector]]
    """The vectors of a model that computes with the own one, made of a task's and of it."""
    pulled: bool
    """Whether training is pulled towards the shared adapter."""


def _in_its_place(_task: Task, own: Vector) -> dict[str, Vector]:
    return {"adapter": own}


def _added(task: Task, own: Vector) -> dict[str, Vector]:
    """The shared adapter becomes a part of the base, with a residual if there is one."""
    beside = [task.vectors[name] for name in ("adapter", "residual") if name in task.vectors]
    return {"adapter": own, "residual": joined(task.layout, beside)}


def _drawn(task: Task) -> Vector:
    """A of the agent's own draw and B zero, so that the sum is the shared adapter's product."""
    return initial_vector(task.layout, task.seed, "personal", task.agent)


PERSONAL: Mapping[str, Personal] = {
    "ditto": Personal(lambda task: task.vectors["adapter"], _in_its_place, pulled=True),
    "dual": Personal(_drawn, _added, pulled=False),
}
"""By the name that ``personal.method`` has: Ditto, Li et al. 2021, arXiv:2012.04221, Algorithm 1;
the iterative training of Yang et al. 2024, arXiv:2403.19211, with a plain sum of both adapters."""


def with_own(task: Task, own: Vector) -> Task:
    """The task over a model that computes with the agent's own adapter."""
    return replace(task, vectors=_personal(task).vectors(task, own))


def training_own(task: Task, own: Vector) -> Task:
    """The fit task that trains the agent's own adapter, on the rows of the task's round.

    Ditto descends along ``gradient + mu (v - w)``, where w is the shared adapter as dispatched.
    All of the own adapter is trained, whichever part of the shared one is.
    """
    asked = asked_personal(task.settings)
    settings = {
        **task.settings,
        "trained": "both",
        "mu": asked.mu if _personal(task).pulled else 0.0,
        "steps": asked.steps_beside(task.settings["steps"]),
    }
    vectors = {**with_own(task, own).vectors, "anchor": task.vectors["adapter"]}
    return replace(task, vectors=vectors, settings=settings)


def first_own(task: Task) -> Vector:
    """The agent's own vector before its first round."""
    return _personal(task).first(task)


def _personal(task: Task) -> Personal:
    return PERSONAL[asked_personal(task.settings).method]
