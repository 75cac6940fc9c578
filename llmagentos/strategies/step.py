"""What a strategy is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, TypeVar

import numpy as np

from llmagentos import kernels
from llmagentos.codecs import Row, in_place
from llmagentos.errors import JournalError
from llmagentos.layout import Layout, Vector
from llmagentos.messages import Roster
from llmagentos.state import ServerState

State = TypeVar("State", kernels.Momentum, kernels.Adaptive)

AverageAndStep = Callable[..., kernels.StepPass[State]]
"""A server's rule on the weighted sum of rows: ``rule(before, rows, weights, out=after)``."""


@dataclass(frozen=True)
class Step:
    """The rows that move the global adapter, ``n`` times ``(d,)``, and how much each counts.

    A row is an array, or coded and decoded where it is read. ``weights`` sum to 1, until a
    ``combine`` makes others of them.
    ``squared_norms`` are those that were found when the rows came in, where they are known: a row
    whose norm differs has changed on the disk. ``metrics`` are those of the updates, ``beside`` the
    rows of the further vectors that they carry, by name, and ``share`` is how large a part of all
    agents they come from. ``lacking`` are the tensors that the agent of each row does not have;
    without it none lacks any.
    """

    rows: Sequence[Row]
    weights: Sequence[float]
    squared_norms: tuple[float, ...] = ()
    metrics: Sequence[Mapping[str, float]] = ()
    beside: Mapping[str, "Step"] = field(default_factory=dict)
    share: float = 1.0
    lacking: Sequence[frozenset[str]] = ()

    def only(self, kept: Sequence[int]) -> "Step":
        """Some of the rows, which count alike."""
        norms = tuple(self.squared_norms[k] for k in kept) if self.squared_norms else ()
        return Step([self.rows[k] for k in kept], [1 / len(kept)] * len(kept), norms)

    def mean(self) -> Vector:
        """The weighted sum of the rows, ``(d,)``."""
        out = np.empty(len(self.rows[0]), np.float32)
        self.sweep(lambda columns, rows: kernels.weighted_sum(rows, self.weights, out=out[columns]))
        return out

    def moved(self, anchor: Vector, lr: float) -> Vector:
        """``anchor + lr * mean``, ``(d,)``, in the same pass."""
        out = np.empty_like(anchor)
        self.sweep(
            lambda columns, rows: kernels.average_step(
                anchor[columns], rows, self.weights, lr, out=out[columns]
            )
        )
        return out

    def taken(self, before: State, rule: AverageAndStep[State]) -> State:
        """The state of a server optimizer after this step: average and step in one pass."""
        after = type(before)(*map(np.empty_like, before))
        self.sweep(
            lambda columns, rows: rule(
                _cut(before, columns), rows, self.weights, out=_cut(after, columns)
            )
        )
        return after

    def sweep(
        self, kernel: Callable[[slice, list[Any]], kernels.Pass | kernels.StepPass[Any]]
    ) -> None:
        """Every value of every row has passed through a kernel, once and in order.

        It gets a range of columns and the rows' values there: all of them where it can read the
        rows in place.
        Raises ``JournalError`` if the rows are not what came in.
        """
        norms = np.zeros(len(self.rows))
        for columns, rows in in_place(self.rows):
            norms += kernel(columns, rows).squared_norms
        if self.squared_norms and tuple(norms) != self.squared_norms:
            raise JournalError("an update has changed on the disk after it was accepted")


def _cut(state: State, columns: slice) -> State:
    return type(state)(*(vector[columns] for vector in state))


@dataclass(frozen=True)
class Dispatch:
    """What one agent gets: vectors, the layout of its adapter, and what only it is told."""

    vectors: Mapping[str, Vector]
    layout: Layout
    told: Mapping[str, Any] = field(default_factory=dict)


def send_all(
    state: ServerState,
    vectors: Mapping[str, Vector],
    agent: str,  # noqa: ARG001
    receipt: int | None,  # noqa: ARG001
) -> Dispatch:
    """Every agent is sent all vectors, at the global adapter's rank."""
    return Dispatch(vectors, state.adapter.layout)


@dataclass(frozen=True)
class Strategy:
    """A federated algorithm on the server's side, as a few functions.

    ``sample`` draws a round's agents. ``dispatch`` says which vectors an agent gets. ``combine``
    makes one step of the weighted updates. ``advance`` takes it. ``needs`` is "sum" where the
    weighted sum is enough and "rows" where single updates must be seen. ``told`` is what the agents
    are told of it in fit tasks: see ``Task``. ``combine`` takes from ``least`` to ``most`` updates.
    ``share`` is what of the vectors an agent is sent, given the last round that counted it.
    """

    sample: Callable[[Roster, np.random.Generator], list[str]]
    dispatch: Callable[[ServerState, str], dict[str, Vector]]
    combine: Callable[[ServerState, Step], Step]
    advance: Callable[[ServerState, Step], ServerState]
    needs: Literal["rows", "sum"] = "sum"
    told: Mapping[str, Any] = field(default_factory=dict)
    least: int = 1
    most: float = inf
    share: Callable[[ServerState, Mapping[str, Vector], str, int | None], Dispatch] = send_all
