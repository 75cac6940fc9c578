"""Which answers count in a round, and for how much."""

from collections.abc import Collection, Mapping, Sequence
from math import ceil, fsum

import numpy as np

from llmagentos import kernels
from llmagentos.adapter import Adapter, refit
from llmagentos.codecs import Row, codec_of, read_all
from llmagentos.errors import QuorumError
from llmagentos.federation.parts import Federation
from llmagentos.gate import cap_weights
from llmagentos.journal import Answer
from llmagentos.messages import Task
from llmagentos.settings import asked_codec
from llmagentos.strategies import Step


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


def decide(round_: int, asked: Collection[str], parts: Federation) -> list[Answer]:
    """The updates that count in a round, fixed in the journal: of agents that the round asks.

    A resume keeps what was fixed if all of it is there: an agent may have been revoked meanwhile,
    or its update be lost.
    Raises ``QuorumError`` when they are too few; the refused are then asked again on a resume.
    """
    journal, quorum = parts.journal, parts.plan.quorum
    answers = [a for a in journal.answers.admitted(round_, "fit") if a.update.agent in asked]
    members, there = journal.members(round_), {answer.update.agent for answer in answers}
    if members is not None and there.issuperset(members):
        return [answer for answer in answers if answer.update.agent in members]
    needed = fewest(len(asked), parts)
    if len(answers) < needed:
        refused = journal.answers.refusals(round_, "fit")
        journal.answers.forgive(round_)
        told = "; ".join(f"{agent!r}: {reason}" for agent, reason in refused.items())
        raise QuorumError(
            f"round {round_}: {len(answers)} of {len(asked)} updates count, "
            f"server.quorum={quorum:g} and server.strategy want {needed}. "
            f"Refused: {told or 'none'}"
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
