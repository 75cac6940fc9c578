"""What a method sends down: what has changed since an agent was last there, at its own rank."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from llmagentos.adapter import refit
from llmagentos.aggregation.methods import Method
from llmagentos.aggregation.residual import chapters, made_in
from llmagentos.layout import Layout, Part, Vector
from llmagentos.state import ServerState
from llmagentos.strategies import Dispatch


@dataclass(frozen=True)
class Dispatching:
    """The ``share`` of a method that trains a part, keeps a residual or fits to an agent.

    An agent that the last round counted gets what that round has changed, and remembers the rest.
    Every other one, a late or a returning one, gets all.
    """

    method: Method
    ranks: Mapping[str, int]
    """Ranks by agent; the global adapter's for all others."""
    modules: Mapping[str, Collection[str]]
    """Names of adapted layers by agent; all of them for all others."""

    def __call__(
        self, state: ServerState, vectors: Mapping[str, Vector], agent: str, receipt: int | None
    ) -> Dispatch:
        """What the agent gets in the state's round, if ``receipt`` last counted it."""
        whole = state.adapter
        layout = self._layout(whole.layout, agent)
        recent = receipt == state.round - 1
        given = self._given(state.round, receipt, recent=recent)
        residuals = chapters(state.extra)
        news = {n: v for n, v in residuals.items() if not recent or made_in(n) == receipt}
        vector = refit(whole.vector, whole.layout, layout)[layout.part(given)]
        return Dispatch(
            {**vectors, "adapter": vector, **news},
            layout,
            self._told(state.round, given, residuals),
        )

    def _layout(self, layout: Layout, agent: str) -> Layout:
        """What the agent has of the global adapter's layout."""
        if agent in self.modules:
            layout = layout.at(self.modules[agent])
        return layout.ranked(self.ranks[agent]) if agent in self.ranks else layout

    def _given(self, round_: int, receipt: int | None, *, recent: bool) -> Part:
        """The part that the agent does not have: what it keeps for itself, it has at any time."""
        if self.method.private and receipt is not None:
            return self.method.sent_in(round_)
        halved = recent and self.method.rule is None
        return self.method.sent_in(round_ - 1) if halved else "both"

    def _told(self, round_: int, given: Part, residuals: Mapping[str, Any]) -> dict[str, Any]:
        parts = {"trained": self.method.trained_in(round_), "sent": self.method.sent_in(round_)}
        halves = {"given": given} if self.method.rule is None else {}
        return {**parts, **halves, "residuals": list(residuals)}
