"""What an agent adds to every gradient of a round, and what it learns for the next one.

A correction descends along ``gradient + linear + mu (y - x)``, where y is the adapter that is
trained and x the one that was dispatched. FedProx has mu alone. SCAFFOLD and FedDyn have a
``linear`` term from a vector that the agent keeps; all vectors are ``(d,)`` float32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmagentos.layout import Vector
from llmagentos.messages import Task, Update


@dataclass(frozen=True)
class Correction:
    """How the vector that an agent keeps bends its training, and how the training changes it.

    The vector is zero before the agent's first round.
    """

    keeps: str
    """What memory calls the vector."""
    linear: Callable[[Task, Vector], Vector]
    learnt: Callable[[Task, Vector, Update], Vector]
    """The vector after a round whose update, not yet coded, is given."""


def _control_gap(task: Task, own: Vector) -> Vector:
    """``c - c_i``."""
    return task.vectors["control"] - own


def _next_control(task: Task, own: Vector, update: Update) -> Vector:
    """``c_i - c + (x - y) / (K lr)``; K counts steps as the learning rate's course weighs them."""
    path = update.metrics["step_weight"] * task.settings["lr"]
    control: Vector = own - task.vectors["control"] - update.vectors["delta"] / path
    return control


def _next_dual(task: Task, own: Vector, update: Update) -> Vector:
    """``g_i - alpha (y - x)``; alpha is the mu of the task."""
    dual: Vector = own - task.settings["mu"] * update.vectors["delta"]
    return dual


CORRECTIONS: Mapping[str, Correction] = {
    "scaffold": Correction("control", _control_gap, _next_control),
    "feddyn": Correction("dual", lambda _, own: -own, _next_dual),
}
"""By the name that tasks give them: Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1,
option II; Acar et al. 2021, arXiv:2111.04263, Algorithm 1."""
