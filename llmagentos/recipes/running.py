"""A tuning run from its first measurement to its report."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from llmagentos.aggregation import aggregated
from llmagentos.federation import Federation, asynchrony, measure, run
from llmagentos.journal import Journal
from llmagentos.lm.distributed import Leader, follow
from llmagentos.recipes.command import Command, dump_settings
from llmagentos.recipes.comparing import compare
from llmagentos.recipes.display import Display
from llmagentos.recipes.engines import engine_of, opening_line
from llmagentos.recipes.log_file import log_file
from llmagentos.recipes.personal import own_losses, own_task, publish_own
from llmagentos.recipes.plan import plan_tables
from llmagentos.recipes.prometheus import prometheus
from llmagentos.recipes.publishing import publish
from llmagentos.recipes.resolve import resolved
from llmagentos.recipes.run_folder import name_taken
from llmagentos.recipes.session import Examples, Session, open_session, plan_of
from llmagentos.recipes.summary import summarise
from llmagentos.recipes.trackers import Trackers, check_trackers
from llmagentos.report import print_summary, round_line, write_report
from llmagentos.strategies import strategy_of

log = logging.getLogger(__name__)


def carry_out(command: Command, examples: Examples, display: Display, *, first: bool) -> None:
    """Load the model, then show the plan or train; an agent's further processes follow."""
    settings = command.settings if command.resume else resolved(command.settings)
    check_trackers(settings.trackers)
    display.line(f"loading {settings.model.source}")
    session = open_session(settings, examples, display.track)
    if command.dry_run:
        display.console.print(plan_tables(session))
    elif first:
        federate(session, command, display)
    else:
        follow(session.trainer)


def federate(session: Session, command: Command, display: Display) -> None:
    """Play the rounds that are missing, publish each, and leave summary and report."""
    folder, settings = command.folder, session.settings
    if not command.resume:
        session.first_state()  # a wrong start is told before anything is written
    with Journal(folder.journal) as journal, Leader(session.trainer) as trainer:
        if folder.begun and not command.resume:
            raise name_taken(folder)
        folder.begin(dump_settings(session.settings))
        run_id = journal.begin(session.layout, session.facts, session.first_state)
        plan = plan_of(settings, run_id)
        if settings.engine != "in_process":
            display.line(opening_line(session, folder))
        with (
            log_file(folder.log),
            prometheus(settings.prometheus, folder.path),
            closing(engine_of(session, trainer, folder)) as engine,
        ):
            strategy = aggregated(strategy_of(settings.server), settings)
            parts = Federation(strategy, engine, journal, plan)
            play(parts, session, command, display)
            measure("measure", journal.state(), parts)
        publish(folder, journal, session)
        compared = folder.comparison(len(journal.reports()))
        if command.compare:
            compared = compare(session, trainer, folder.path / "compare")
        publish_own(parts, session, folder)
        own = own_task(session.silos[0].name, parts, session, folder)
        losses = own_losses(parts, session, trainer, folder)
        summary = summarise(journal, session, folder, compared, own) | {"personal": losses}
        folder.write_summary(summary)
        write_report(folder.path)
    display.end()
    print_summary(display.console, summary)


def play(parts: Federation, session: Session, command: Command, display: Display) -> None:
    """The rounds, with what a person and the trackers see of them."""
    folder, journal = command.folder, parts.journal
    if journal.state().round == 1:
        measure("measure", journal.state(), parts)
    if command.resume:
        display.line(resumed_line(journal))
    publish(folder, journal, session)
    loss = last_loss(journal.reports())
    with Trackers(session.settings, folder) as trackers:
        rounds = asynchrony.run if session.settings.server.asynchronous else run
        for report in rounds(parts):
            folder.summary.unlink(missing_ok=True)
            publish(folder, journal, session)
            write_report(folder.path)
            trackers.log(report)
            line = round_line(vars(report), rounds=parts.plan.rounds, previous=loss)
            log.info(line, extra={"event": "closed", **vars(report)})
            display.line(line)
            loss = loss if report.loss is None else report.loss


def last_loss(reports: Sequence[Mapping[str, Any]]) -> float | None:
    """The held-out loss that was read last, if any was."""
    return next((r["loss"] for r in reversed(reports) if r["loss"] is not None), None)


def resumed_line(journal: Journal) -> str:
    """Where a resumed run goes on."""
    open_ = journal.state().round
    there = len(journal.answers.admitted(open_, "fit"))
    return f"resumed in round {open_}; answers to it in the journal: {there}"
