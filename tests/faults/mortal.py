"""Agents in spawned processes that are killed at named points, life after life."""

from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmagentos.engines import Trainer
from llmagentos.engines.carrier import Answer
from tests.faults.crash_points import DESK, MEMORY, TRAINING, Point, arm, everything
from tests.organisations import Organisations


def half_sent(work, pipe, body, *_):
    """Half of a message is on its way."""
    work(pipe, body[: len(body) // 2])


def is_answer(pipe, body, *_):
    """That a process is ready is told by an empty body."""
    return len(body) > 4


SENDING = {
    "half of an answer in the pipe": Point(Connection, "_send", half_sent, is_answer),
    "answer in the pipe": Point(Connection, "send_bytes", everything, is_answer),
}
ENDS = TRAINING | MEMORY | DESK | SENDING


def secrets_of(organisations: Organisations) -> dict[str, bytes]:
    """The private keys as bytes, which can be passed to another process."""
    keys = {**organisations.keys, "": organisations.coordinator}
    return {name: key.private_bytes_raw() for name, key in keys.items()}


@dataclass(frozen=True)
class Mortal:
    """Makes an agent's answer; its first ``kills`` lives end at points drawn from the seed.

    Every second life answers once before. The points are told in a file of ``run``.
    """

    run: Path
    secrets: Mapping[str, bytes]
    trainer: Trainer
    seed: int = 0
    kills: int = 0

    def __call__(self, agent: str) -> Answer:
        life, end = self.born(agent)
        if end and life % 2 == 0:
            arm(*end)
        desk = self.organisations(agent).open_desk(agent)

        def answered(body):
            answer = desk.answer(body)
            if end and life % 2:
                arm(*end)
            return answer

        return answered

    def organisations(self, agent):
        made = Organisations(self.run / "agents", {}, self.trainer)
        keys = {n: Ed25519PrivateKey.from_private_bytes(s) for n, s in self.secrets.items()}
        made.keys, made.coordinator = keys, keys[""]
        return made

    def born(self, agent):
        """The number of this life, and its end."""
        names = self.ends(agent)
        name = Random(f"{self.seed} {agent} {len(names)}").choice(sorted(ENDS))
        self.run.mkdir(exist_ok=True)
        with (self.run / f"{agent}.lives").open("a") as file:
            file.write(f"{name}\n")
        return len(names), (ENDS[name], 0) if len(names) < self.kills else None

    def ends(self, agent):
        """The named ends of the lives until now."""
        file = self.run / f"{agent}.lives"
        return file.read_text().splitlines() if file.exists() else []
