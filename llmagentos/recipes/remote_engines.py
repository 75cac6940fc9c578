"""Engines whose agents do not share the server's process."""

from pathlib import Path

from llmagentos.engines.carrier import Carrier
from llmagentos.engines.remote import RemoteEngine
from llmagentos.identity import Member, RosterFile, read_key
from llmagentos.messages import Enrolled
from llmagentos.recipes.residents import Resident, home_of, public_key
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def starting_engine(session: Session, folder: RunFolder) -> RemoteEngine:
    """Agents that start here, with keys of their own in the run's folder."""
    home = folder.engine
    home.mkdir(mode=0o700, exist_ok=True)
    key = home / "coordinator.key"
    resident = Resident(session.settings, home, folder.agents, public_key(key))
    members = {agent: member(home, agent, said) for agent, said in session.roster.items()}
    carrier = carrier_of(resident, list(members))
    return RemoteEngine(carrier, members, read_key(key), session.base.hash)


def member(folder: Path, agent: str, said: Enrolled) -> Member:
    """A resident as an enrolled agent."""
    key = public_key(home_of(folder, agent) / "agent.key")
    return Member(key, said.examples, said.tokens)


def carrier_of(resident: Resident, agents: list[str]) -> Carrier:
    """What starts the agents and carries to them; each kind imports what it needs."""
    settings = resident.settings
    if settings.engine == "ray":
        from llmagentos.engines.ray import RayCarrier, Share

        share = Share(settings.ray.cpus, settings.ray.gpus)
        return RayCarrier(resident, agents, share, settings.ray.address)
    if settings.engine == "flower":
        from llmagentos.engines.flower.local import local_flower

        return local_flower(resident, agents, resident.folder / "flower")
    from llmagentos.engines.processes import ProcessCarrier

    return ProcessCarrier(resident, agents)


def dialling_engine(session: Session, folder: RunFolder) -> RemoteEngine:
    """Agents elsewhere, which dial in to a SuperLink that starts here."""
    from llmagentos.engines.flower.carrier import FlowerCarrier
    from llmagentos.engines.flower.link import Address

    flower = session.settings.flower
    assert flower.roster is not None
    roster = RosterFile(Path(flower.roster))
    members = roster.members
    certificates = Path(flower.certificates).absolute()
    address = Address(certificates, flower.host, flower.port, flower.listen)
    nodes = Path(flower.node_keys)
    keys = {name: nodes / f"{name}.pub" for name, of in members.items() if not of.revoked}
    carrier = FlowerCarrier(folder.engine / "flower", address, keys)
    key = read_key(Path(flower.key))
    return RemoteEngine(carrier, members, key, session.base.hash, roster.renewed)
