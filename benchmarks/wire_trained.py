"""Agents that train a model on their silos of a corpus, for `wire.py`."""

from collections.abc import Sequence

from llmagentos.corpus import read_silos
from llmagentos.lm.trainer import untracked
from llmagentos.recipes.resolve import resolved
from llmagentos.recipes.session import open_session
from llmagentos.settings import RunSettings
from llmagentos.state import ServerState


class Trained:
    """Some of a run's agents, or all where none is named, on one frozen model."""

    def __init__(self, settings: RunSettings, agents: Sequence[str]) -> None:
        settings = resolved(settings)
        everyone = read_silos(settings.corpus, settings.seed)
        chosen = {name: everyone[name] for name in agents or everyone}
        self.session = open_session(settings, chosen, untracked)
        self.layout, self.roster = self.session.layout, self.session.roster
        self.base, self.trainer = self.session.base.hash, self.session.trainer

    def first_state(self) -> ServerState:
        """The adapter that training starts from."""
        return self.session.first_state()
