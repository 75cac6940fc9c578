"""An agent's last step before it answers: its change in the codec that the task asks for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from llmagentos import kernels
from llmagentos.codecs import Codec, codec_of, encode_all, read_all
from llmagentos.engines.engine import Trainer
from llmagentos.engines.wrapping import fitted
from llmagentos.layout import Vector
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, Update
from llmagentos.seeds import generator
from llmagentos.settings import CodecSettings, asked_codec, asked_privacy


class CodingTrainer:
    """A trainer whose changes are coded; what that loses is kept in ``folder``, agent by agent."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The trainer's updates, as they come, in the codecs of their tasks.

        An agent whose memory is damaged is an error once those before it have their updates.
        """
        return fitted(self.trainer, tasks, self._ready, self._coded)

    def _ready(self, task: Task) -> Task:
        if has_feedback(asked_codec(task.settings)):
            self._memory(task).check(task)
        return task

    def _coded(self, update: Update, task: Task) -> Update:
        return coded(update, task, self._memory(task))

    def _memory(self, task: Task) -> AgentMemory:
        return AgentMemory(self.folder / folder_name(task.agent))

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics."""
        return self.trainer.evaluate(task)


def coded(update: Update, task: Task, memory: AgentMemory) -> Update:
    """The update with all its vectors in the task's codec.

    With error feedback a vector and what earlier rounds have lost of it, or of the same part of it,
    is encoded, and memory keeps the difference to what arrives: Seide et al. 2014, "1-bit SGD", and
    Karimireddy et al. 2019, arXiv:1901.09847, Algorithm 2. Of a sum that would arrive longer than
    the task lets leave a part waits. Draws come from the task's seed, agent and round.
    """
    settings = asked_codec(task.settings)
    codec = codec_of(settings)
    if not has_feedback(settings):
        parts = encode_all(codec, update.vectors, partial(_draws, task))
        return replace(update, vectors=parts)
    with np.errstate(all="ignore"):
        owed, part = memory.recall(task), _part(task)
        wanted = {n: x + owed.get(n + part, np.float32(0)) for n, x in update.vectors.items()}
        sent, arrived = encoded(codec, wanted, task, longest(update, task))
        lost = {n + part: x - np.asarray(arrived[n], np.float32) for n, x in wanted.items()}
        memory.keep(task, {**owed, **lost})
    return replace(update, vectors=sent)


def has_feedback(settings: CodecSettings) -> bool:
    """Whether what a codec loses in a round is sent in a later one."""
    return codec_of(settings).lossy and settings.error_feedback


def longest(update: Update, task: Task) -> float:
    """How long a change may arrive: as the task asks, or as noise has made it."""
    clip = asked_privacy(task.settings).clip
    return inf if clip is None else max(clip, norm_of(update.vectors["delta"]))


def encoded(
    codec: Codec, wanted: Mapping[str, Vector], task: Task, limit: float
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Vectors as they leave and as they arrive, the change no longer than ``limit``.

    It is shortened only once the codec has left out what it does: else little would leave.
    """
    parts = encode_all(codec, wanted, partial(_draws, task))
    arrived = read_all(codec, parts, task.carried, task.values)
    factor = kernels.clip_factor(norm_of(arrived["delta"]), limit)
    if factor == 1:
        return parts, arrived
    shorter = wanted["delta"] * np.float32(factor)
    return encoded(codec, {**wanted, "delta": shorter}, task, inf)


def norm_of(vector: Any) -> float:
    """Its length, added in float64."""
    return float(np.linalg.norm(np.asarray(vector, np.float64)))


def _part(task: Task) -> str:
    """What the names of losses end in, where they are of a part of the adapter."""
    sent = task.settings.get("sent", "both")
    return "" if sent == "both" else f".{sent}"


def _draws(task: Task, name: str) -> np.random.Generator:
    """What the codec of a vector draws from; every vector has draws of its own."""
    purpose = () if name == "delta" else (name,)
    return generator(task.seed, "codec", task.agent, task.round, *purpose)
