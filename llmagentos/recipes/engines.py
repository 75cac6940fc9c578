"""The engine that a run's settings ask for."""

from llmagentos.engines import Engine, InProcessEngine, Trainer, with_memory
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def engine_of(session: Session, trainer: Trainer, folder: RunFolder) -> Engine:
    """The engine; agents that have processes of their own on these machines are started."""
    if session.settings.engine == "in_process":
        return InProcessEngine(with_memory(trainer, folder.agents), session.roster)
    # Signatures need a package that agents in this process do without.
    from llmagentos.recipes.apart import dialling_engine, starting_engine  # noqa: PLC0415

    dialled = session.settings.engine == "flower" and session.settings.flower.roster
    return dialling_engine(session, folder) if dialled else starting_engine(session, folder)
