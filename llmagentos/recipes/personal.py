"""The adapters that agents compute with, where each has one of its own."""

from dataclasses import replace

from llmagentos.aggregation import METHODS
from llmagentos.engines import SharingTrainer, Trainer
from llmagentos.federation import Federation, task_for
from llmagentos.memory import folder_name
from llmagentos.messages import Task
from llmagentos.recipes.personal_folders import OWN, SHARED, Published, adapters_of, write_own
from llmagentos.recipes.publishing import metrics_after
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session


def own_task(agent: str, parts: Federation, session: Session, folder: RunFolder) -> Task:
    """The measuring of the last round's adapter, with all that the agent computes with.

    Only what the agent has for itself is looked up in its folder: of all else it is given
    everything.
    """
    state = parts.journal.state()
    task = task_for(agent, "measure", state, parts)
    if not keeps_own(session):
        vectors = parts.strategy.dispatch(state, agent)
        given = parts.strategy.share(state, vectors, agent, None)
        task = replace(task, vectors=given.vectors, settings={**task.settings, **given.told})
        return SharingTrainer(session.trainer, folder.agents).completed(task)
    found = adapters_of(task, session.trainer, folder.agents)
    return found.get(OWN) or found[SHARED]


def keeps_own(session: Session) -> bool:
    """Whether agents in this process keep a factor or an adapter that they send to nobody."""
    settings = session.settings
    personal = METHODS[settings.aggregation].private or settings.personal.method != "none"
    return personal and settings.engine == "in_process"


def own_losses(
    parts: Federation, session: Session, trainer: Trainer, folder: RunFolder
) -> dict[str, dict[str, float]]:
    """Held-out loss of each agent's own adapter by silo; empty where agents have none.

    On the silos of the others it is read only where all text lies in this process, and if
    ``evaluation.away`` says so.
    """
    if keeps_own(session) and session.settings.evaluation.away:
        tasks = (own_task(agent, parts, session, folder) for agent in session.roster)
        return {task.agent: _everywhere(task, session, trainer) for task in tasks}
    journal = parts.journal
    found = metrics_after(journal, journal.state().round - 1).items()
    return {a: {a: m["personal_loss"]} for a, m in found if "personal_loss" in m}


def _everywhere(task: Task, session: Session, trainer: Trainer) -> dict[str, float]:
    """The loss of a task's adapter on every silo."""
    asked = (replace(task, agent=silo.name) for silo in session.silos)
    return {each.agent: trainer.evaluate(each).metrics["loss"] for each in asked}


def publish_own(parts: Federation, session: Session, folder: RunFolder) -> None:
    """``personal/<agent>`` is the adapter that each agent computes with, where it has its own."""
    if not keeps_own(session):
        return
    settings = session.settings
    published = Published(session.peft_config(), settings.model.source, settings.seed)
    for agent in session.roster:
        task = own_task(agent, parts, session, folder)
        write_own(folder.personal / folder_name(agent), task, OWN, published)
