"""An agent's change, shortened and blurred before anybody else sees it."""

import hmac
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmagentos import kernels
from llmagentos.engines.engine import Trainer
from llmagentos.engines.wrapping import fitted
from llmagentos.errors import Refused
from llmagentos.files import make_folder, write_secret
from llmagentos.layout import Vector
from llmagentos.memory import folder_name
from llmagentos.messages import Task, Update
from llmagentos.settings import asked_privacy
from llmagentos.tasks import encode_task

SECRET_BYTES = 32


class VeilingTrainer:
    """A trainer whose changes are clipped and noised as their tasks say.

    The noise is drawn from a secret in the agent's ``folder`` and from what the task gave, so a
    task that comes again is answered with the same noise, and no two tasks share any.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer = trainer
        self.folder = folder

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The trainer's updates with changes that may leave."""
        return fitted(self.trainer, tasks, checked, self._veiled)

    def evaluate(self, task: Task) -> Update:
        """The trainer's metrics."""
        return self.trainer.evaluate(task)

    def _veiled(self, update: Update, task: Task) -> Update:
        asked = asked_privacy(task.settings)
        if asked.clip is None:
            return update
        delta = kernels.clipped(update.vectors["delta"], asked.clip).vector
        if asked.noise:
            rng = noise_generator(secret_of(self.folder / folder_name(task.agent)), task)
            delta = noised(delta, asked.noise * asked.clip, rng)
        return replace(update, vectors={**update.vectors, "delta": delta})


def checked(task: Task) -> Task:
    """The task, if all that its answer holds can be clipped; else ``Refused``."""
    beside = task.carried[1:]
    if asked_privacy(task.settings).clip is not None and beside:
        raise Refused(f"privacy.clip bounds the change, not what goes beside it: {beside[0]}")
    return task


def noised(vector: Vector, deviation: float, rng: np.random.Generator) -> Vector:
    """``vector + N(0, deviation^2)`` in every value, ``(d,)`` float32.

    The Gaussian mechanism at the agent: Dwork & Roth 2014, Appendix A. Draws are float64 and
    rounded once, with the sum.
    """
    return (vector + rng.normal(scale=deviation, size=vector.shape)).astype(np.float32)


def noise_generator(secret: bytes, task: Task) -> np.random.Generator:
    """Draws that only the holder of the secret can foresee; others for every task."""
    seed = hmac.digest(secret, encode_task(task), "sha256")
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


def secret_of(folder: Path) -> bytes:
    """The agent's secret, made when it is first needed."""
    path = folder / "noise" / "secret"
    if not path.is_file():
        make_folder(path.parent)
        write_secret(path, secrets.token_bytes(SECRET_BYTES))
    return path.read_bytes()
