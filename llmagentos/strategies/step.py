"""What a strategy is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmagentos import kernels
from llmagentos.adapter import Vector
from llmagentos.errors import JournalError
from llmagentos.messages import Roster
from llmagentos.state import ServerState


@dataclass(frozen=True)
class Step:
    """The rows that move the global adapter, ``n`` times ``(d,)``, and how much each counts.

    ``weights`` sum to 1. ``squared_norms`` are those that were found when the rows
    came in, where they are known: a row whose norm differs has changed on the disk.
    """

    rows: Sequence[NDArray[Any]]
    weights: Sequence[float]
    squared_norms: tuple[float, ...] = ()

    def checked(self, result: kernels.Pass) -> Vector:
        """The vector of a pass over the rows; ``JournalError`` if they are not what came in."""
        if self.squared_norms and result.squared_norms != self.squared_norms:
            raise JournalError("an update has changed on the disk after it was accepted")
        return result.vector


@dataclass(frozen=True)
class Strategy:
    """A federated algorithm on the server's side, as a few functions.

    ``sample`` draws a round's agents. ``dispatch`` says which vectors an agent gets. ``combine``
    makes one step of the weighted updates. ``advance`` takes it. ``needs`` is "sum" where the
    weighted sum is enough and "rows" where single updates must be seen.
    """

    sample: Callable[[Roster, np.random.Generator], list[str]]
    dispatch: Callable[[ServerState, str], dict[str, Vector]]
    combine: Callable[[ServerState, Step], Step]
    advance: Callable[[ServerState, Step], ServerState]
    needs: Literal["rows", "sum"] = "sum"
