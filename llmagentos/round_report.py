"""What a closed round leaves for people and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from statistics import fmean
from typing import Any

import numpy as np

from llmagentos import kernels
from llmagentos.journal import Answer
from llmagentos.state import ServerState
from llmagentos.strategies import Step


@dataclass(frozen=True)
class RoundReport:
    """One round in plain numbers, by agent where that makes sense; one line of ``metrics.jsonl``.

    ``loss`` is the plain mean of ``agents``, the held-out losses of the new global adapter, so that
    every organisation counts alike; None without evaluation. ``norms`` are those of the
    deltas, ``cosines`` the angles between them, ``weights`` sum to 1. ``bytes_up`` counts the files
    that came in, ``bytes_down`` the vectors that training tasks carried.
    """

    round: int
    loss: float | None
    agents: Mapping[str, float]
    seconds: float
    bytes_up: int
    bytes_down: int
    train_loss: Mapping[str, float]
    weights: Mapping[str, float]
    norms: Mapping[str, float]
    cosines: Mapping[str, Any]
    update_norm: float
    refused: Mapping[str, str]


def mean_loss(losses: Mapping[str, float]) -> float | None:
    """The plain mean over agents."""
    return fmean(losses.values()) if losses else None


def training_facts(answers: Sequence[Answer], step: Step) -> dict[str, Any]:
    """What the agents' updates say about a round."""
    names = [answer.update.agent for answer in answers]
    losses = (answer.update.metrics.get("train_loss", nan) for answer in answers)
    return {
        "bytes_up": sum(answer.size_bytes for answer in answers),
        "train_loss": {n: x for n, x in zip(names, losses, strict=True) if isfinite(x)},
        "weights": dict(zip(names, step.weights, strict=True)),
        "norms": {n: sqrt(x) for n, x in zip(names, step.squared_norms, strict=True)},
        "cosines": {"names": names, "matrix": cosines(step)},
    }


def cosines(step: Step) -> list[list[float]]:
    """Cosine between every two deltas, ``(n, n)``; 0 where one of them is zero."""
    inner = kernels.gram(step.rows)
    norms = np.sqrt(np.diagonal(inner))
    products = np.outer(norms, norms)
    angles = np.divide(inner, products, out=np.zeros_like(inner), where=products > 0)
    rounded: list[list[float]] = np.round(angles, 6).tolist()
    return rounded


def change_norm(before: ServerState, after: ServerState) -> float:
    """L2 norm of the change of the global adapter."""
    return sqrt(kernels.inspect(after.adapter.vector - before.adapter.vector).squared_norm)
