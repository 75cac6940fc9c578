"""A run without common rounds: agents answer when they can, the server steps when enough have.

A round is one flush of the buffer, so its number is the version of the adapter, and a task has the
round that it began at. FedBuff: Nguyen et al. 2022, arXiv:2106.06639; FedAsync: Xie et al. 2019,
arXiv:1903.03934.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from llmagentos.errors import QuorumError, Refused
from llmagentos.federation.asking import Post, refuse, task_for
from llmagentos.federation.counting import weighted
from llmagentos.federation.parts import Federation
from llmagentos.federation.patience import Patience
from llmagentos.federation.rounds import check_finite
from llmagentos.journal import Answer
from llmagentos.messages import Task
from llmagentos.round_report import RoundReport, change_norm, training_facts
from llmagentos.state import ServerState
from llmagentos.strategies import Step

log = logging.getLogger(__name__)


def run(parts: Federation) -> Iterator[RoundReport]:
    """Play the flushes that are not yet closed in the journal; yield each report as it closes.

    Updates count in the order in which the journal got them, so a run over the same arrivals ends
    with the same bits. Agents that are still at work after the last flush are waited for, unless
    they are revoked, and what they bring is where a run that goes on begins. Nothing is evaluated
    on the way: that would wait for the slowest.
    """
    state, post = parts.journal.state(), reopened(parts)
    while state.round <= parts.plan.rounds:
        state, report = flush(state, post, parts)
        yield report
    finish(post, parts)


def flush(state: ServerState, post: Post, parts: Federation) -> tuple[ServerState, RoundReport]:
    """The next state: the first ``plan.buffer`` updates that wait are combined, and counted."""
    start, journal = parts.clock(), parts.journal
    dismiss_gone(post, parts)
    fill(state, post, parts)
    members = sorted(journal.answers.waiting()[: parts.plan.buffer], key=lambda a: a.update.agent)
    journal.decide(state.round, [answer.update.agent for answer in members])
    task = task_for(members[0].update.agent, "fit", state, parts)
    asked = {answer.update.agent: task for answer in members}
    combined = weighted(members, asked, state.adapter, len(parts.engine.roster))
    updates = aged(combined, members, state, parts)
    advanced = parts.strategy.advance(state, parts.strategy.combine(state, updates))
    check_finite(advanced)
    report = RoundReport(
        round=state.round,
        loss=None,
        agents={},
        seconds=round(parts.clock() - start, 3),
        bytes_down=len(members) * sum(vector.nbytes for vector in task.vectors.values()),
        update_norm=change_norm(state, advanced),
        refused=journal.answers.refused_meanwhile(len(members)),
        staleness={a.update.agent: state.round - a.update.round for a in members},
        product_error=None,
        **training_facts(members, updates, asked, state.adapter.layout),
    )
    journal.close_round(advanced, asdict(report))
    return journal.state(), report


def fill(state: ServerState, post: Post, parts: Federation) -> None:
    """The buffer is full; whoever has neither a task nor an update in it gets a task.

    Raises ``QuorumError`` when nobody is at work any more; a resumed run asks again.
    """
    answers = parts.journal.answers
    while len(answers.waiting()) < parts.plan.buffer:
        hand_out(state, post, parts)
        if not post.tasks:
            refused = answers.refusals(state.round, "fit")
            answers.forgive(state.round)
            told = "; ".join(f"{agent!r}: {reason}" for agent, reason in refused.items())
            raise QuorumError(
                f"version {state.round}: the buffer has {len(answers.waiting())} updates, "
                f"server.buffer={parts.plan.buffer} wants more. Refused: {told}"
            )
        post.receive()


def aged(updates: Step, members: Sequence[Answer], state: ServerState, parts: Federation) -> Step:
    """The updates with their staleness in versions, and beside them the adapters they began at."""
    began = [answer.update.round for answer in members]
    told = zip(updates.metrics, began, strict=True)
    metrics = [{**metrics, "staleness": float(state.round - base)} for metrics, base in told]
    anchors = [parts.journal.state(base).adapter.vector for base in began]
    beside = {**updates.beside, "anchor": Step(anchors, updates.weights)}
    return replace(updates, metrics=metrics, beside=beside)


def reopened(parts: Federation) -> Post:
    """The tasks that the journal knows as open, which are sent again.

    Each is from the version that it began at.
    """
    journal = parts.journal
    tasks = {
        agent: task_from(journal.state(base), agent, parts)
        for agent, base in journal.answers.open_tasks()
    }
    return Post(parts, Patience(None, parts.plan.resend_s, parts.clock), tasks)


def hand_out(state: ServerState, post: Post, parts: Federation) -> None:
    """Every agent that has no task, no update in the buffer and no answer yet gets a task."""
    answers, roster = parts.journal.answers, parts.engine.roster
    resting = {answer.update.agent for answer in answers.waiting()}
    idle = sorted(set(roster) - resting - set(post.tasks))
    tasks = [task_from(state, agent, parts) for agent in idle]
    fresh = [task for task in tasks if not answers.answered(task)]
    answers.ask(fresh)
    post.tasks |= {task.agent: task for task in fresh}


def dismiss_gone(post: Post, parts: Federation) -> None:
    """Whoever is enrolled no more has neither a task nor an update that is still to count.

    The journal says why.
    """
    parts.engine.renew()
    answers, reason = parts.journal.answers, Refused("it is enrolled no more")
    for agent in post.tasks.keys() - parts.engine.roster.keys():
        refuse(post.drop(agent), reason, answers)
    for agent in {answer.update.agent for answer in answers.waiting()} - parts.engine.roster.keys():
        log.warning("the update of agent %r waits no more: %s", agent, reason)
        answers.withdraw(agent, str(reason))


def finish(post: Post, parts: Federation) -> None:
    """Everyone who is at work has answered, or is enrolled no more."""
    dismiss_gone(post, parts)
    while post.tasks:
        post.receive()
        dismiss_gone(post, parts)


def task_from(state: ServerState, agent: str, parts: Federation) -> Task:
    """A task from a version on; its receipt is the version that the agent's last began at."""
    receipt = parts.journal.answers.last_answer(agent, state.round)
    return replace(task_for(agent, "fit", state, parts), receipt=receipt)
