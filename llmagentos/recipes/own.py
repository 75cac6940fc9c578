"""The adapters that agents compute with, where each has one of its own."""

from dataclasses import replace

from llmagentos.adapter import Adapter
from llmagentos.aggregation import METHODS
from llmagentos.engines import SharingTrainer
from llmagentos.federation import Federation, task_for
from llmagentos.memory import folder_name
from llmagentos.messages import Task
from llmagentos.publish import at_rank, personal_card, write_peft_folder
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def own_task(agent: str, parts: Federation, session: Session, folder: RunFolder) -> Task:
    """The measuring of the last round's adapter, with all that the agent computes with.

    Only a private factor is looked up in the agent's folder: of all else it is given everything.
    """
    state = parts.journal.state()
    task = task_for(agent, "measure", state, parts)
    if not keeps_own(session):
        vectors = parts.strategy.dispatch(state, agent)
        given = parts.strategy.share(state, vectors, agent, None)
        task = replace(task, vectors=given.vectors, settings={**task.settings, **given.told})
    return SharingTrainer(session.trainer, folder.agents).completed(task)


def keeps_own(session: Session) -> bool:
    """Whether agents in this process keep a factor that they send to nobody."""
    private = METHODS[session.settings.aggregation].private
    return private and session.settings.engine == "in_process"


def publish_own(parts: Federation, session: Session, folder: RunFolder) -> None:
    """``personal/<agent>`` is each agent's adapter, where a method leaves it a factor."""
    if keeps_own(session):
        for agent in session.roster:
            _write(own_task(agent, parts, session, folder), session, folder)


def _write(task: Task, session: Session, folder: RunFolder) -> None:
    place = folder.personal / folder_name(task.agent)
    config = at_rank(session.peft_config(), task.layout.pairs[0].rank)
    base, seed = session.settings.model.source, session.settings.seed
    card = personal_card(task.agent, base, str(place), seed)
    write_peft_folder(place, Adapter(task.layout, task.vectors["adapter"]), config, card)
