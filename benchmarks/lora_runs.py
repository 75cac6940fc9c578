"""The run that a cell of `lora_methods.py` is."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_cells import Cell, Found
from lora_plan import Contender, Size

from llmagentos.aggregation import METHODS, aggregated, chapters, joined
from llmagentos.corpus import read_silos
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.errors import LLMAgentOSError
from llmagentos.federation import Federation, run, task_for
from llmagentos.journal import Journal
from llmagentos.layout import Vector
from llmagentos.messages import Task
from llmagentos.recipes.comparing import central, local_only
from llmagentos.recipes.personal_folders import OWN, SHARED, adapters_of
from llmagentos.recipes.resolve import resolved
from llmagentos.recipes.session import Session, open_session, plan_of
from llmagentos.settings import (
    CohortSettings,
    CorpusSettings,
    EvaluationSettings,
    LocalSettings,
    LoraSettings,
    ModelSettings,
    PartitionSettings,
    PersonalSettings,
    RunSettings,
    ServerSettings,
)
from llmagentos.state import ServerState
from llmagentos.strategies import strategy_of

Losses = dict[str, float]
"""Held-out loss by silo, nats a target token."""

Play = Callable[[Session, Path], dict[str, Any]]
"""A run in a folder of its own: ``shared`` losses of the common adapter, ``personal`` ones of each
agent's own by agent, and what its rounds report."""

NEIGHBOURS = 3
"""Silos of others on which an agent's own adapter is read: with four agents, all."""


def played(cell: Cell, contender: Contender, size: Size, folder: Path) -> Found:
    """All that the run of a cell shows; processor seconds are those of this process.

    One that leaves the numbers, as at too high a rate, has ``failed``, with the reason.
    """
    session = opened(cell.corpus, cell.agents, cell.seed, contender.ranks, size)
    local = replace(session.settings.local, lr=cell.lr or session.settings.local.lr)
    settings = replace(
        session.settings,
        local=local,
        aggregation=contender.aggregation,
        personal=PersonalSettings(contender.personal),
    )
    wall, cpu = time.monotonic(), time.process_time()
    try:
        found = PLAYS[contender.kind](replace(session, settings=settings), folder)
    except LLMAgentOSError as error:
        found = {"failed": str(error)}
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {**found, "cpu_s": round(cpu, 2), "wall_s": round(wall, 2), "ended": time.time()}


@lru_cache(maxsize=1)
def opened(corpus: str, agents: int, seed: int, ranks: tuple[int, ...], size: Size) -> Session:
    """Model and silos of a cell, kept for the next one of the same kind."""
    settings = resolved(settings_of(corpus, agents, seed, size))
    silos = read_silos(settings.corpus, seed)
    lora = settings.lora
    if ranks:
        named = dict(zip(silos, ranks, strict=True))
        scale = lora.alpha / lora.rank
        lora = replace(lora, rank=max(ranks), alpha=scale * max(ranks), ranks=named)
    return open_session(replace(settings, lora=lora), silos, lambda items, _: items)


def settings_of(corpus: str, agents: int, seed: int, size: Size) -> RunSettings:
    """The run that all methods have in common."""
    return RunSettings(
        rounds=size.rounds,
        seed=seed,
        threads=1,
        model=ModelSettings(source=size.model),
        lora=LoraSettings(rank=8, alpha=16, target_modules=["q_proj", "v_proj"]),
        corpus=CorpusSettings(
            source=corpus,
            partition=PartitionSettings(agents=agents),
            template="plain",
            max_tokens=size.max_tokens,
            **size.corpora[corpus],
        ),
        local=LocalSettings(steps=size.steps, batch=size.batch),
        trainer="cohort",
        cohort=CohortSettings(agents=4),
        server=ServerSettings(residual_rank=size.residual_rank),
        evaluation=EvaluationSettings(rows=0, final_rows=size.rows),
    )


def untrained(session: Session, folder: Path) -> dict[str, Any]:  # noqa: ARG001
    """The base model as it is."""
    return {"shared": everywhere(global_task(session.first_state(), session), session)}


def alone(session: Session, folder: Path) -> dict[str, Any]:
    """Every agent for itself."""
    return {"personal": local_only(session, session.trainer, folder)}


def together(session: Session, folder: Path) -> dict[str, Any]:
    """All text in one place."""
    return {"shared": central(session, session.trainer, folder)}


def federated(session: Session, folder: Path) -> dict[str, Any]:
    """A federation with the session's aggregation.

    An agent has an adapter of its own where the method keeps a factor at home or fits to ranks.
    """
    settings = session.settings
    with Journal(folder / "journal") as journal:
        engine = InProcessEngine(with_memory(session.trainer, folder / "agents"), session.roster)
        plan = plan_of(settings, journal.begin(session.layout, session.facts, session.first_state))
        strategy = aggregated(strategy_of(settings.server), settings)
        parts = Federation(strategy, engine, journal, plan)
        reports, start = [], time.process_time()
        for report in run(parts):
            reports.append(report)
            journal.forget(updates=True)
        found: dict[str, Any] = {name: [getattr(r, name) for r in reports] for name in REPORTED}
        found["rounds_cpu_s"] = round(time.process_time() - start, 2)
        if not METHODS[settings.aggregation].private:
            found["shared"] = everywhere(global_task(journal.state(), session), session)
        own = dict(own_tasks(parts, session, folder / "agents"))
        if own:
            found["personal"] = {agent: nearby(task, session) for agent, task in own.items()}
        return found


def own_tasks(parts: Federation, session: Session, memory: Path) -> Iterator[tuple[str, Task]]:
    """The measuring of what an agent computes with, where that is not what all have."""
    for agent in session.roster:
        task = task_for(agent, "measure", parts.journal.state(), parts)
        found = adapters_of(task, session.trainer, memory)
        if OWN in found:
            yield agent, found[OWN]
        elif session.settings.lora.ranks:
            yield agent, found[SHARED]


REPORTED = ("product_error", "bytes_up", "bytes_down", "train_loss")
"""What a line keeps of every round's report."""


def global_task(state: ServerState, session: Session) -> Task:
    """The measuring of the adapter that all have in common, with the residual beside the base."""
    vectors: dict[str, Vector] = {"adapter": state.adapter.vector}
    if parts := chapters(state.extra):
        vectors["residual"] = joined(state.adapter.layout, list(parts.values()))
    evaluation = session.settings.evaluation
    return Task(
        run="",
        round=1,
        kind="measure",
        agent="",
        vectors=vectors,
        layout=session.layout,
        seed=session.settings.seed,
        settings={"rows": evaluation.final_rows, "batch": evaluation.batch},
    )


def everywhere(task: Task, session: Session) -> Losses:
    """The loss of a task's adapter on every silo."""
    return {silo.name: loss_on(silo.name, task, session) for silo in session.silos}


def nearby(task: Task, session: Session) -> Losses:
    """The loss of an agent's own adapter at home and on the silos after its own."""
    names = [silo.name for silo in session.silos]
    start = names.index(task.agent)
    circle = (names * 2)[start : start + min(1 + NEIGHBOURS, len(names))]
    return {name: loss_on(name, task, session) for name in circle}


def loss_on(silo: str, task: Task, session: Session) -> float:
    """The loss of a task's adapter on the held-out rows of a silo."""
    return session.trainer.evaluate(replace(task, agent=silo)).metrics["loss"]


PLAYS: Mapping[str, Play] = {
    "untrained": untrained,
    "alone": alone,
    "central": together,
    "federated": federated,
}
"""What a contender's kind is."""
