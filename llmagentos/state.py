"""What the server carries from round to round."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from llmagentos.adapter import Adapter
from llmagentos.layout import Layout, Vector


@dataclass(frozen=True)
class ServerState:
    """Exactly what a checkpoint stores.

    ``round`` is the one to be played next, counted from 1. ``moments`` are the server
    optimizer's, of the adapter's size or that of a part of it; ``extra`` is what a method keeps
    beside the adapter. All are 1-D float32.
    """

    round: int
    adapter: Adapter
    moments: Mapping[str, Vector] = field(default_factory=dict)
    extra: Mapping[str, Vector] = field(default_factory=dict)

    def moment(self, name: str, start: float = 0.0) -> Vector:
        """A moment, ``(d,)``; filled with ``start`` before the first round."""
        found = self.moments.get(name)
        return np.full(self.adapter.layout.size, start, np.float32) if found is None else found

    def advanced(self, vector: Vector, **moments: Vector) -> "ServerState":
        """The state of the next round with a new adapter and the moments that led to it."""
        adapter = Adapter(self.adapter.layout, vector)
        return ServerState(self.round + 1, adapter, moments or self.moments, self.extra)

    def vectors(self) -> dict[str, Vector]:
        """All vectors under names that ``restored`` takes apart again."""
        return {
            "adapter": self.adapter.vector,
            **{f"moments.{name}": vector for name, vector in self.moments.items()},
            **{f"extra.{name}": vector for name, vector in self.extra.items()},
        }


def restored(round_: int, layout: Layout, vectors: Mapping[str, Vector]) -> ServerState:
    """The state whose ``vectors`` these are."""

    def named(prefix: str) -> dict[str, Vector]:
        return {
            name.removeprefix(prefix): vector
            for name, vector in vectors.items()
            if name.startswith(prefix)
        }

    adapter = Adapter(layout, vectors["adapter"])
    return ServerState(round_, adapter, named("moments."), named("extra."))
