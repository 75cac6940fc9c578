"""Tasks on their way to the agents, and what becomes of the answers."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmagentos.errors import Damaged, Refused
from llmagentos.federation.parts import Federation
from llmagentos.federation.patience import Patience
from llmagentos.gate import admit
from llmagentos.journal import Answers
from llmagentos.messages import Kind, Task, decode
from llmagentos.state import ServerState

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often an answer that arrives damaged is asked for."""

PAUSE_S = 0.05
"""So long nobody is listened for where there is nobody to wait for, though answers are missing.

So it is where an agent has answered another task than the one that it was asked.
"""


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
    plan, answers = parts.plan, parts.journal.answers
    wanted = len(tasks) if enough is None else enough
    patience = Patience(plan.deadline_s, plan.resend_s, parts.clock)
    post = Post(parts, patience, {t.agent: t for t in tasks if not answers.answered(t)})
    answers.ask(list(post.tasks.values()))
    while post.tasks and not patience.over and not satisfied(wanted, tasks, post, answers):
        post.receive()
    ended = f"within {plan.deadline_s:g} s" if patience.over else f"before {wanted} others"
    with parts.journal.together():
        for task in post.tasks.values():
            refuse(task, Refused(f"no answer {ended}"), answers)


def dismiss(tasks: Sequence[Task], answers: Answers) -> None:
    """Who was asked in the tasks' round before a resume, and is not among them, is refused.

    So it is when an agent was revoked meanwhile; a task left open would keep the round's state.
    """
    wanted = {task.agent for task in tasks}
    for agent, round_ in answers.open_tasks():
        if round_ == tasks[0].round and agent not in wanted:
            refuse(replace(tasks[0], agent=agent), Refused("it is asked no more"), answers)


class Post:
    """Tasks that the agents are at work on, one for each agent, until the journal has the answers.

    ``tasks`` is by agent.
    """

    def __init__(self, parts: Federation, patience: Patience, tasks: Mapping[str, Task]) -> None:
        self.tasks = dict(tasks)
        self._parts = parts
        self._patience = patience
        self._damaged: Counter[tuple[str, int]] = Counter()

    def receive(self) -> None:
        """Who is due is asked, and what comes in next is in the journal, in the order it came."""
        for agent in self._patience.due(self.tasks):
            self._parts.engine.send(self.tasks[agent])
        replies = self._parts.engine.poll(self._patience.left(self.tasks))
        if not replies:
            left = self._patience.left(self.tasks)
            time.sleep(PAUSE_S if left is None else min(PAUSE_S, left))
        with self._parts.journal.together():
            for agent, body in replies:
                if agent in self.tasks and self._settled(body, self.tasks[agent]):
                    self.drop(agent)

    def drop(self, agent: str) -> Task:
        """The agent has no task any more; the one that it had."""
        self._patience.again(agent)
        return self.tasks.pop(agent)

    def _settled(self, body: bytes, task: Task) -> bool:
        """Whether the task has its answer; a damaged one is asked for again."""
        try:
            return settle(body, task, self._parts)
        except Damaged as error:
            self._damaged[task.agent, task.round] += 1
            if self._damaged[task.agent, task.round] < ATTEMPTS:
                self._patience.again(task.agent)
                return False
            refuse(task, error, self._parts.journal.answers)
            return True


def satisfied(wanted: int, tasks: Sequence[Task], post: Post, answers: Answers) -> bool:
    """Whether so many of the tasks, which are of one round and kind, have a good answer."""
    answered = {task.agent for task in tasks} - post.tasks.keys()
    if len(answered) < wanted:
        return False
    return len(answered - answers.refusals(tasks[0].round, tasks[0].kind).keys()) >= wanted


def settle(body: bytes, task: Task, parts: Federation) -> bool:
    """Whether the task now has its answer; one to an earlier task, late or again, is dropped.

    Raises ``Damaged`` when the bytes are no answer at all.
    """
    answers = parts.journal.answers
    answer = decode(body)
    same_source = (answer.run, answer.agent) == (task.run, task.agent)
    if same_source and answers.repeats(answer, task):
        log.info(
            "%s of agent %r, round %d: late or again; dropped",
            answer.kind,
            answer.agent,
            answer.round,
        )
        return False
    heaviest = parts.engine.roster[task.agent].weight(parts.plan.weighting)
    try:
        answers.record(task, body, admit(answer, task, heaviest))
    except Refused as reason:
        refuse(task, reason, answers)
    return True


def refuse(task: Task, reason: Refused, answers: Answers) -> None:
    """The agent has no update in this round, and the log says why."""
    log.warning("%s of agent %r, round %d: %s; refused", task.kind, task.agent, task.round, reason)
    answers.refuse(task, str(reason))
