"""The adapters that agents compute with, where each has one of its own."""

from llmagentos.adapter import Adapter
from llmagentos.aggregation import METHODS
from llmagentos.engines import SharingTrainer
from llmagentos.federation import Federation, task_for
from llmagentos.memory import folder_name
from llmagentos.messages import Task
from llmagentos.publish import at_rank, personal_card, write_peft_folder
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def own_task(agent: str, parts: Federation, sharing: SharingTrainer) -> Task:
    """The measuring of the last round's adapter, with all that the agent computes with."""
    return sharing.completed(task_for(agent, "measure", parts.journal.state(), parts))


def publish_own(
    parts: Federation, sharing: SharingTrainer, session: Session, folder: RunFolder
) -> None:
    """``personal/<agent>`` is each agent's adapter, where a method leaves it a factor."""
    if METHODS[session.settings.aggregation].private:
        for agent in session.roster:
            _write(own_task(agent, parts, sharing), session, folder)


def _write(task: Task, session: Session, folder: RunFolder) -> None:
    place = folder.personal / folder_name(task.agent)
    config = at_rank(session.peft_config(), task.layout.pairs[0].rank)
    base, seed = session.settings.model.source, session.settings.seed
    card = personal_card(task.agent, base, str(place), seed)
    write_peft_folder(place, Adapter(task.layout, task.vectors["adapter"]), config, card)
