"""What a closed round leaves for people and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan, sqrt
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos import kernels
from llmagentos.adapter import refit
from llmagentos.codecs import BLOCK, Row, codec_of, in_place, read_all
from llmagentos.journal import Answer
from llmagentos.layout import Layout
from llmagentos.messages import Task
from llmagentos.settings import asked_codec
from llmagentos.state import ServerState
from llmagentos.strategies import Step

MOST_PAIRED = 24
"""Updates whose cosines are kept pair by pair: their number grows with the square of the agents."""


@dataclass(frozen=True)
class RoundReport:
    """One round in plain numbers, by agent where that makes sense; one line of ``metrics.jsonl``.

    ``loss`` is the plain mean of ``agents``, the held-out losses of the new global adapter, so that
    every organisation counts alike; None without evaluation. ``norms`` are those of the
    deltas, as the agents made them, ``cosines`` how far they agree (``agreement``). ``weights`` sum
    to 1: what the updates count, before a rule such as Krum's chooses. ``bytes_up`` counts the
    files that came in and were counted, also by agent, ``bytes_up_fp32`` what they would be without
    the codec, ``bytes_down`` the vectors that training tasks carried. ``product_error`` is how far
    the product of the new factors is from the mean of the agents' products, as a share of its norm.
    ``staleness`` is how many rounds have passed since an update began, where agents are not waited
    for. ``personal`` are the held-out losses of the agents' own adapters, where they have any.
    Printed, it leaves out what is longer than a line for many agents.
    """

    round: int
    loss: float | None
    agents: Mapping[str, float] = field(repr=False)
    seconds: float
    codec: str
    bytes_up: int
    bytes_up_fp32: int
    bytes_by_agent: Mapping[str, int] = field(repr=False)
    bytes_down: int
    train_loss: Mapping[str, float] = field(repr=False)
    weights: Mapping[str, float] = field(repr=False)
    norms: Mapping[str, float] = field(repr=False)
    cosines: Mapping[str, Any] = field(repr=False)
    update_norm: float
    product_error: float | None
    refused: Mapping[str, str]
    staleness: Mapping[str, int] = field(default_factory=dict, repr=False)
    personal: Mapping[str, float] = field(default_factory=dict, repr=False)


def losses_of(metrics: Mapping[str, Mapping[str, float]], name: str = "loss") -> dict[str, float]:
    """One number out of the metrics of every agent that has it and for which it is one."""
    known = {agent: found.get(name, nan) for agent, found in metrics.items()}
    return {agent: value for agent, value in known.items() if isfinite(value)}


def mean_loss(losses: Mapping[str, float]) -> float | None:
    """The plain mean over agents."""
    return fmean(losses.values()) if losses else None


def training_facts(
    answers: Sequence[Answer], step: Step, asked: Mapping[str, Task], layout: Layout
) -> dict[str, Any]:
    """What the agents' updates say about a round of a global adapter of this layout."""
    pairs = zip(step.rows, answers, strict=True)
    changes = [own_change(row, answer, asked[answer.update.agent], layout) for row, answer in pairs]
    names = [answer.update.agent for answer in answers]
    sizes = {name: answer.size_bytes for name, answer in zip(names, answers, strict=True)}
    losses = (answer.update.metrics.get("train_loss", nan) for answer in answers)
    return {
        "codec": asked_codec(asked[names[0]].settings).name,
        "bytes_up": sum(sizes.values()),
        "bytes_up_fp32": sum(as_fp32(answer, asked[answer.update.agent]) for answer in answers),
        "bytes_by_agent": sizes,
        "train_loss": {n: x for n, x in zip(names, losses, strict=True) if isfinite(x)},
        "weights": dict(zip(names, step.weights, strict=True)),
        "norms": {n: sqrt(answer.squared_norm) for n, answer in zip(names, answers, strict=True)},
        "cosines": agreement(names, cosines(changes)),
    }


def as_fp32(answer: Answer, task: Task) -> int:
    """The bytes of the answer's file if its vectors were in float32, its header as it is."""
    coded = sum(part.nbytes for part in answer.update.vectors.values())
    return answer.size_bytes - coded + 4 * task.values * len(task.carried)


def own_change(row: Row, answer: Answer, task: Task, layout: Layout) -> Row:
    """What an agent changed: its row, or where its layout is another, zeros where it has nothing.

    There the row also takes the agent from the global adapter to the part of it that it was given.
    """
    if task.layout == layout:
        return row
    codec = codec_of(asked_codec(task.settings))
    delta = read_all(codec, answer.update.vectors, task.carried, task.values)["delta"]
    return refit(np.asarray(delta, np.float32), task.layout, layout)


def agreement(names: Sequence[str], angles: NDArray[np.float64]) -> dict[str, Any]:
    """The cosines for a report: ``{names, matrix}`` of up to ``MOST_PAIRED`` agents.

    Of more, ``{names, means, lowest, highest}``: each agent's mean over the others, and the span of
    all pairs.
    """
    if len(names) <= MOST_PAIRED:
        return {"names": names, "matrix": angles.round(6).tolist()}
    pairs = angles[~np.eye(len(names), dtype=bool)].reshape(len(names), -1)
    span = {"lowest": round(float(pairs.min()), 6), "highest": round(float(pairs.max()), 6)}
    return {"names": names, "means": pairs.mean(axis=1).round(6).tolist(), **span}


def cosines(changes: Sequence[Row]) -> NDArray[np.float64]:
    """Cosine between every two deltas, ``(n, n)``; 0 where one of them is zero."""
    inner = np.sum([kernels.gram(rows) for _, rows in in_place(changes)], axis=0)
    norms = np.sqrt(np.diagonal(inner))
    products = np.outer(norms, norms)
    angles: NDArray[np.float64] = np.zeros_like(inner)
    np.divide(inner, products, out=angles, where=products > 0)
    return angles


def change_norm(before: ServerState, after: ServerState) -> float:
    """L2 norm of the change of the global adapter."""
    old, new = before.adapter.vector, after.adapter.vector
    blocks_of = (slice(start, start + BLOCK) for start in range(0, len(new), BLOCK))
    return sqrt(sum(kernels.inspect(new[part] - old[part]).squared_norm for part in blocks_of))
