"""Where an agent's post is opened: sealed task in, sealed answer out."""

import logging
import time
from dataclasses import dataclass, replace
from threading import Lock

from llmagentos.agent.journal import AgentJournal
from llmagentos.agent.limits import Limits, check_limits
from llmagentos.codecs.container import LARGEST_HEADER_BYTES
from llmagentos.engines import Trainer
from llmagentos.errors import Damaged, LLMAgentOSError, Refused
from llmagentos.identity import Header, PrivateKey, PublicKey, Sealed, name_of, open_sealed, seal
from llmagentos.identity.envelope import LARGEST_ENVELOPE_BYTES
from llmagentos.layout import Layout
from llmagentos.messages import ADDRESS, Task, Update, check_layout, decode, encode, failure
from llmagentos.tasks import decode_task

log = logging.getLogger(__name__)


VECTORS = 4
"""Vectors of the adapter's size that a task has room for, more than any method sends."""


def largest_task(layout: Layout, residual_rank: int) -> int:
    """The most bytes that a sealed task may have, for an adapter and what comes beside it."""
    values = VECTORS * layout.size + layout.factors.ranked(residual_rank).size
    return LARGEST_ENVELOPE_BYTES + LARGEST_HEADER_BYTES + 4 * values


@dataclass(frozen=True)
class Party:
    """An agent among others: its name and key, the one coordinator that it hears, the agreed base.

    ``layout`` is that of the adapter that it trains, ``largest_bytes`` the most that a sealed task
    may have.
    """

    name: str
    key: PrivateKey
    coordinator: PublicKey
    base: str
    layout: Layout
    largest_bytes: int


class Desk:
    """Answers what its coordinator asks and its organisation agreed to; refuses the rest.

    ``examples`` is the number of its training rows. What it runs is what is installed: a task
    holds numbers and settings, never code.
    """

    def __init__(
        self, party: Party, limits: Limits, journal: AgentJournal, trainer: Trainer, examples: int
    ) -> None:
        self.party = party
        self.limits = limits
        self.journal = journal
        self.trainer = trainer
        self.examples = examples
        self._one_at_a_time = Lock()

    def answer(self, body: bytes) -> bytes:
        """The sealed answer to a sealed task; a task that comes again gets the same answer.

        What the coordinator did not sign gets the reason in plain text, and nothing else.
        """
        try:
            sealed = self._opened(body)
            task = _task(sealed)
        except Damaged as reason:
            log.warning("agent %r refused what came: %s", self.party.name, reason)
            return f"refused: {reason}".encode()
        with self._one_at_a_time:
            return self._seal(self._reply(task, sealed), sealed.header)

    def _opened(self, body: bytes) -> Sealed:
        own, coordinator = self.party.key.public_key(), self.party.coordinator
        return open_sealed(body, coordinator, own, self.party.largest_bytes)

    def _reply(self, task: Task, sealed: Sealed) -> bytes:
        """The answer's wire file; whatever goes wrong becomes a failure that says so.

        Of an error that nobody foresaw only its kind is told: its words may hold private text.
        """
        try:
            self._check(task, sealed.header.base)
            stored = self.journal.answer(task, sealed.digest)
            if stored is None:
                return self._made(task, sealed.digest)
            log.info("%s of round %d came again: the same answer", task.kind, task.round)
            return stored
        except LLMAgentOSError as error:
            reason = str(error)
        except Exception as error:
            log.exception("agent %r failed in round %d", task.agent, task.round)
            reason = f"{type(error).__name__}; the agent's own log says more"
        log.warning("%s of round %d: %s", task.kind, task.round, reason)
        return encode(failure(task, reason))

    def _check(self, task: Task, base: str) -> None:
        if task.agent != self.party.name:
            raise Refused(f"the task is for {task.agent!r}, I am {self.party.name!r}")
        if base != self.party.base:
            raise Refused(f"base model {base[:12]}: I agreed to {self.party.base[:12]}")
        check_layout(task, self.party.layout)
        check_limits(task, self.limits, self.examples)

    def _made(self, task: Task, asked: str) -> bytes:
        """The answer of the trainer, kept before it leaves."""
        start = time.monotonic()
        if task.kind == "fit":
            ((update,),) = self.trainer.fit([task])
        else:
            update = self.trainer.evaluate(task)
        body = encode(update)
        self.journal.keep(task, asked, body)
        spent = time.monotonic() - start
        log.info("%s of round %d: done in %.1f s", task.kind, task.round, spent)
        return body

    def _seal(self, body: bytes, asked: Header) -> bytes:
        answer, own = decode(body), self.party.key
        header = replace(
            asked,
            sender=name_of(own),
            recipient=name_of(self.party.coordinator),
            base=self.party.base,
            weight=answer.weight if isinstance(answer, Update) else 0.0,
        )
        return seal(header, body, own)


def _task(sealed: Sealed) -> Task:
    """The task inside, which is the one that the header names."""
    task = decode_task(sealed.payload)
    for name in ADDRESS:
        if getattr(task, name) != getattr(sealed.header, name):
            raise Damaged(f"header and task differ in {name}")
    return task
