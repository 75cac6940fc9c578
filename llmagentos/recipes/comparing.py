"""What federation is worth: each agent alone, and all text in one place, with the same budget."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from llmagentos.engines import InProcessEngine, Trainer
from llmagentos.engines.keeping import KeepingTrainer
from llmagentos.federation import Federation, measure, run
from llmagentos.journal import Journal
from llmagentos.recipes.session import CENTRAL, Session, enrolled, plan_of
from llmagentos.round_report import losses_of
from llmagentos.settings import CodecSettings, PersonalSettings, RunSettings
from llmagentos.strategies import fedavg

Losses = dict[str, float]


def compare(session: Session, trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Held-out losses by silo of local-only adapters and of a central one.

    Each is a federation of one, with a journal of its own, so it resumes like any other run.
    """
    return {
        "local": local_only(session, trainer, folder),
        "central": central(session, trainer, folder),
    }


def local_only(session: Session, trainer: Trainer, folder: Path) -> dict[str, Losses]:
    """Held-out losses by silo of every agent's own adapter.

    It trains the steps of the run's mean agent.
    """
    settings = budget(session)
    return {
        silo.name: alone(silo.name, settings, session, trainer, folder / f"local-{number}")
        for number, silo in enumerate(session.silos, 1)
    }


def central(session: Session, trainer: Trainer, folder: Path) -> Losses:
    """Held-out losses by silo of one adapter that trains the steps of all agents together."""
    settings = budget(session)
    steps = sum(settings.local.steps_of(silo.name) for silo in session.silos)
    warmup = round(settings.local.warmup_steps * steps / settings.local.steps)
    local = replace(settings.local, steps=steps, warmup_steps=warmup)
    pooled = replace(settings, local=local)
    return alone(CENTRAL, pooled, session, trainer, folder / "central")


def budget(session: Session) -> RunSettings:
    """What one agent of the run does alone.

    It trains as many rounds as the mean agent of the run, over which its learning rate takes the
    course that it has in the run. Nothing is coded, as nothing would travel, and nobody has a
    second adapter.
    """
    settings = session.settings
    share = settings.server.updates(len(session.silos)) / len(session.silos)
    rounds, horizon = settings.rounds, settings.schedule_rounds or settings.rounds
    warmup = round(settings.local.warmup_steps * share)
    return replace(
        settings,
        rounds=max(1, round(rounds * share)),
        schedule_rounds=max(1, round(horizon * share)),
        local=replace(settings.local, mu=0.0, warmup_steps=warmup),
        codec=CodecSettings(),
        personal=PersonalSettings(),
        evaluation=replace(settings.evaluation, rows=0),
    )


def alone(
    agent: str, settings: RunSettings, session: Session, trainer: Trainer, folder: Path
) -> Losses:
    """Held-out loss on every silo of an adapter that one agent trained."""
    with Journal(folder) as journal:
        run_id = journal.begin(session.layout, session.facts, session.first_state)
        plan = plan_of(settings, run_id)
        remembering = KeepingTrainer(trainer, folder / "agents")
        engine = InProcessEngine(remembering, {agent: enrolled(session.trainer.silos[agent])})
        parts = Federation(fedavg(), engine, journal, plan)
        for _ in run(parts):
            journal.forget(updates=True)
        everyone = replace(parts, engine=InProcessEngine(trainer, session.roster))
        return losses_of(measure("measure", journal.state(), everyone))
