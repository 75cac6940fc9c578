"""The engine that a run's settings ask for."""

from llmagentos.engines import Engine, InProcessEngine, Trainer, with_memory
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def engine_of(session: Session, trainer: Trainer, folder: RunFolder) -> Engine:
    """The engine; agents that have processes of their own on these machines are started."""
    if session.settings.engine == "in_process":
        return InProcessEngine(with_memory(trainer, folder.agents), session.roster)
    # Signatures need a package that agents in this process do without.
    from llmagentos.recipes.remote_engines import dialling_engine, starting_engine

    make = dialling_engine if session.settings.dialled else starting_engine
    return make(session, folder)


def opening_line(session: Session, folder: RunFolder) -> str:
    """What a person waits for while an engine starts, and where it tells more."""
    settings = session.settings
    if settings.dialled:
        at = f"{settings.flower.listen}:{settings.flower.port}"
        return f"agents dial in at {at}; Flower's logs are in {folder.engine / 'flower'}"
    count = len(session.roster)
    return f"starting {count} agents on engine {settings.engine}; its files are in {folder.engine}"
