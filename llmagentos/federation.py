"""One round of federated training, and the run that is made of rounds."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, fsum
from typing import Any

import numpy as np

from llmagentos import kernels
from llmagentos.adapter import Adapter, refit
from llmagentos.aggregation import product_error
from llmagentos.codecs import Row, asked_codec, codec_of, read_all
from llmagentos.engines import Engine
from llmagentos.errors import Damaged, DivergedError, QuorumError, Refused
from llmagentos.gate import admit, cap_weights
from llmagentos.journal import Answer, Journal
from llmagentos.messages import Kind, Task, decode
from llmagentos.patience import Patience
from llmagentos.round_report import RoundReport, change_norm, losses_of, mean_loss, training_facts
from llmagentos.seeds import generator
from llmagentos.state import ServerState
from llmagentos.strategies import Step, Strategy

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an answer that arrives damaged is asked for."""


@dataclass(frozen=True)
class Plan:
    """How long a run is, its seed, who counts for how much, and what agents are told.

    ``settings`` are those of the tasks by kind; without ``evaluate`` rounds are not evaluated.
    ``by_agent`` is where an agent's fit tasks differ from the others'.
    ``spare``, ``deadline_s``, ``resend_s`` and ``buffer`` are those of ``ServerSettings``.
    """

    run: str
    rounds: int
    seed: int = 0
    quorum: float = 0.5
    weighting: str = "examples"
    spare: float = 0.0
    deadline_s: float | None = None
    resend_s: float | None = None
    buffer: int = 1
    settings: Mapping[Kind, Mapping[str, Any]] = field(default_factory=dict)
    by_agent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Federation:
    """The parts of a run: an algorithm, who carries its messages, what remembers, and the plan.

    ``clock`` gives seconds that only grow.
    """

    strategy: Strategy
    engine: Engine
    journal: Journal
    plan: Plan
    clock: Callable[[], float] = time.monotonic


def run(parts: Federation) -> Iterator[RoundReport]:
    """Play the rounds that are not yet closed in the journal; yield each report as it closes."""
    state = parts.journal.state()
    while state.round <= parts.plan.rounds:
        state, report = play_round(state, parts)
        yield report


def play_round(state: ServerState, parts: Federation) -> tuple[ServerState, RoundReport]:
    """The next state: drawn agents train, what counts is combined, and the round is closed.

    The state lies in the journal's file and takes no memory of its own.
    """
    start = parts.clock()
    strategy, journal = parts.strategy, parts.journal
    parts.engine.renew()
    rng = generator(parts.plan.seed, "cohort", state.round)
    tasks = [task_for(a, "fit", state, parts) for a in strategy.sample(parts.engine.roster, rng)]
    ask(tasks, parts, awaited(len(tasks), parts))
    asked = {task.agent: task for task in tasks}
    members = decide(state.round, asked, parts)
    updates = weighted(members, asked, state.adapter, len(parts.engine.roster))
    advanced = strategy.advance(state, strategy.combine(state, updates))
    check_finite(advanced)
    found = measure("evaluate", advanced, parts)
    losses = losses_of(found)
    report = RoundReport(
        round=state.round,
        loss=mean_loss(losses),
        agents=losses,
        personal=losses_of(found, "personal_loss"),
        seconds=round(parts.clock() - start, 3),
        bytes_down=sum(vector.nbytes for task in tasks for vector in task.vectors.values()),
        update_norm=change_norm(state, advanced),
        product_error=product_error(state, updates, advanced, tasks[0]),
        refused=journal.refusals(state.round, "fit"),
        **training_facts(members, updates, asked),
    )
    journal.close_round(advanced, asdict(report))
    return journal.state(), report


def check_finite(state: ServerState) -> None:
    """Raise ``DivergedError`` when the server's own step has left the numbers."""
    wrong = kernels.inspect(state.adapter.vector).nonfinite
    if wrong:
        raise DivergedError(
            f"round {state.round - 1}: {wrong} values of the new adapter are not finite; "
            "start another run with a lower server.lr"
        )


def measure(kind: Kind, state: ServerState, parts: Federation) -> dict[str, Mapping[str, float]]:
    """Held-out metrics of a state's adapter by agent; none when the plan has no such task."""
    if kind not in parts.plan.settings:
        return {}
    ask([task_for(agent, kind, state, parts) for agent in parts.engine.roster], parts)
    answers = parts.journal.answers(state.round - 1, kind)
    return {answer.update.agent: answer.update.metrics for answer in answers}


def task_for(agent: str, kind: Kind, state: ServerState, parts: Federation) -> Task:
    """What an agent is asked; an evaluation carries the number of rounds that were played."""
    receipt = parts.journal.receipt(agent, state.round)
    vectors = parts.strategy.dispatch(state, agent)
    given = parts.strategy.share(state, vectors, agent, receipt)
    return Task(
        run=parts.plan.run,
        round=state.round if kind == "fit" else state.round - 1,
        kind=kind,
        agent=agent,
        vectors=given.vectors,
        layout=given.layout,
        seed=parts.plan.seed,
        receipt=receipt,
        settings={**told(agent, kind, parts), **given.told},
    )


def told(agent: str, kind: Kind, parts: Federation) -> dict[str, Any]:
    """The settings of a task: the plan's, for training also the agent's own and the strategy's."""
    common = dict(parts.plan.settings[kind])
    own = {**parts.plan.by_agent.get(agent, {}), **parts.strategy.told}
    return common | own if kind == "fit" else common


def ask(tasks: Sequence[Task], parts: Federation, enough: int | None = None) -> None:
    """Every task has its answer in the journal, good or refused.

    Who has none at the deadline, or once ``enough`` are good, is refused as too late.
    """
    engine, journal, plan = parts.engine, parts.journal, parts.plan
    waiting = {task.agent: task for task in tasks if not journal.answered(task)}
    enough = len(tasks) if enough is None else enough
    journal.ask(list(waiting.values()))
    damaged: Counter[str] = Counter()
    patience = Patience(plan.deadline_s, plan.resend_s, parts.clock)
    while waiting and not patience.over and good(tasks, waiting, journal) < enough:
        for agent in patience.due(waiting):
            engine.send(waiting[agent])
        replies = engine.poll(patience.left(waiting))
        with journal.together():
            for agent, body in replies:
                if agent not in waiting:
                    continue
                try:
                    settled = settle(body, waiting[agent], parts)
                except Damaged as error:
                    damaged[agent] += 1
                    settled = damaged[agent] == ATTEMPTS
                    refuse(waiting[agent], error, journal) if settled else patience.again(agent)
                if settled:
                    del waiting[agent]
    ended = f"within {plan.deadline_s:g} s" if patience.over else f"before {enough} others"
    with journal.together():
        for task in waiting.values():
            refuse(task, Refused(f"no answer {ended}"), journal)


def good(tasks: Sequence[Task], waiting: Mapping[str, Task], journal: Journal) -> int:
    """How many of the tasks, which are of one round and kind, have an answer that counts."""
    refused = journal.refusals(tasks[0].round, tasks[0].kind)
    return sum(task.agent not in waiting and task.agent not in refused for task in tasks)


def awaited(asked: int, parts: Federation) -> int:
    """How many updates a round waits for."""
    return max(share_of(asked, 1 - parts.plan.spare), fewest(asked, parts))


def fewest(asked: int, parts: Federation) -> int:
    """How many updates a round needs."""
    return max(share_of(asked, parts.plan.quorum), parts.strategy.least)


def share_of(asked: int, share: float) -> int:
    """A share of the agents, rounded up."""
    # rounded first, since 0.28 * 25 is a little above 7 in floating point
    return ceil(round(share * asked, 9))


def settle(body: bytes, task: Task, parts: Federation) -> bool:
    """Whether the task now has its answer; one to an earlier task, late or again, is dropped.

    Raises ``Damaged`` when the bytes are no answer at all.
    """
    answer = decode(body)
    same_source = (answer.run, answer.agent) == (task.run, task.agent)
    if same_source and parts.journal.repeats(answer, task):
        log.info(
            "%s of agent %r, round %d: late or again; dropped",
            answer.kind,
            answer.agent,
            answer.round,
        )
        return False
    heaviest = parts.engine.roster[task.agent].weight(parts.plan.weighting)
    try:
        parts.journal.record(task, body, admit(answer, task, heaviest))
    except Refused as reason:
        refuse(task, reason, parts.journal)
    return True


def refuse(task: Task, reason: Refused, journal: Journal) -> None:
    """The agent has no update in this round, and the log says why."""
    log.warning("%s of agent %r, round %d: %s; refused", task.kind, task.agent, task.round, reason)
    journal.refuse(task, str(reason))


def decide(round_: int, asked: Collection[str], parts: Federation) -> list[Answer]:
    """The updates that count in a round, fixed in the journal: of agents that the round asks.

    One that was revoked between its answer and a resume is none of them.
    Raises ``QuorumError`` when they are too few; the refused are then asked again on a resume.
    """
    journal, quorum = parts.journal, parts.plan.quorum
    answers = [a for a in journal.answers(round_, "fit") if a.update.agent in asked]
    members = journal.members(round_)
    if members is not None and set(members) <= set(asked):
        return [answer for answer in answers if answer.update.agent in members]
    needed = fewest(len(asked), parts)
    if len(answers) < needed:
        refused = journal.refusals(round_, "fit")
        journal.forgive(round_)
        told = "; ".join(f"{agent!r}: {reason}" for agent, reason in refused.items())
        raise QuorumError(
            f"round {round_}: {len(answers)} of {len(asked)} updates count, "
            f"server.quorum={quorum:g} and server.strategy want {needed}. Refused: {told}"
        )
    journal.decide(round_, [answer.update.agent for answer in answers])
    return answers


def weighted(
    answers: Sequence[Answer], asked: Mapping[str, Task], anchor: Adapter, enrolled: int
) -> Step:
    """The deltas as rows in the order of their agents' names, with their shares.

    They are coded as the tasks asked, and mapped from their files; so is what came beside them. One
    of another layout than the global adapter's becomes a row of that one, without a change where
    the agent has no such layer. ``enrolled`` agents could have been drawn.
    """
    capped = cap_weights({a.update.agent: a.update.weight for a in answers})
    total = fsum(capped.values())
    weights = tuple(weight / total for weight in capped.values())
    rows = [rows_of(answer, asked[answer.update.agent], anchor) for answer in answers]
    beside = asked[answers[0].update.agent].carried[1:]
    return Step(
        rows=[row["delta"] for row, _ in rows],
        weights=weights,
        squared_norms=tuple(squared_norm for _, squared_norm in rows),
        metrics=[answer.update.metrics for answer in answers],
        beside={name: Step([row[name] for row, _ in rows], weights) for name in beside},
        share=len(answers) / enrolled,
        lacking=[lacking(asked[answer.update.agent], anchor) for answer in answers],
    )


def lacking(task: Task, anchor: Adapter) -> frozenset[str]:
    """The tensors of the global adapter that the task's agent does not have."""
    return frozenset(anchor.layout.names) - frozenset(task.layout.names)


def rows_of(answer: Answer, task: Task, anchor: Adapter) -> tuple[dict[str, Row], float]:
    """An agent's vectors by name, and the squared norm of its change of the global adapter."""
    codec = codec_of(asked_codec(task.settings))
    rows = read_all(codec, answer.update.vectors, task.carried, task.values)
    if task.layout == anchor.layout:
        return rows, answer.squared_norm
    local = task.vectors["adapter"] + np.asarray(rows["delta"], np.float32)
    widened = refit(local, task.layout, anchor.layout) - anchor.vector
    for name in lacking(task, anchor):
        widened[anchor.layout.places[name]] = 0
    return {**rows, "delta": widened}, kernels.inspect(widened).squared_norm
