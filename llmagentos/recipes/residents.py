"""Agents in processes of their own on the coordinator's machines, to try things out with."""

from dataclasses import dataclass, replace
from pathlib import Path

from llmagentos.agent import AgentJournal, Desk, Limits, Party
from llmagentos.agent.desk import largest_task
from llmagentos.corpus import read_silos
from llmagentos.engines import with_memory
from llmagentos.engines.carrier import Answer
from llmagentos.identity import key_of, name_of, new_key, read_key, write_key
from llmagentos.lm.trainer import untracked
from llmagentos.memory import folder_name
from llmagentos.recipes.session import open_session
from llmagentos.settings import RunSettings

LIMITLESS = Limits(rounds=2**31, steps=2**31, epochs=float("inf"), examples=1, rows=1, held_out=1)
"""Agents whose settings are the coordinator's own agree to what it asks."""


@dataclass(frozen=True)
class Resident:
    """Makes an agent's answer in the agent's own process: a model, a silo, a desk.

    ``folder`` is the run's part for the engine, ``memory`` the one for what agents keep, and
    ``coordinator`` the public key whose tasks are heard.
    """

    settings: RunSettings
    folder: Path
    memory: Path
    coordinator: str

    def __call__(self, agent: str) -> Answer:
        """The agent's desk, which holds its journal as long as the process lives."""
        everyone = read_silos(self.settings.corpus, self.settings.seed)
        session = open_session(self.settings, {agent: everyone[agent]}, untracked)
        home = home_of(self.folder, agent)
        journal = AgentJournal(home / "journal")
        own, coordinator = read_key(home / "agent.key"), key_of(self.coordinator)
        limits = replace(LIMITLESS, residual_rank=self.settings.server.residual_rank)
        largest = largest_task(session.layout, limits.residual_rank)
        party = Party(agent, own, coordinator, session.base.hash, session.layout, largest)
        trainer = with_memory(session.trainer, self.memory)
        (silo,) = session.silos
        return Desk(party, limits, journal, trainer, len(silo.train)).answer


def home_of(folder: Path, agent: str) -> Path:
    """Where a resident has its key and journal."""
    home = folder / "residents" / folder_name(agent)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def public_key(path: Path) -> str:
    """The public half of the key in a file, which is made unless it is there."""
    if not path.exists():
        write_key(path, new_key())
    return name_of(read_key(path))
