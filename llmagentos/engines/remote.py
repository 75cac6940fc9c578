"""Agents at other organisations: signed envelopes over whatever carries bytes."""

import logging
import secrets
from collections.abc import Callable, Mapping

from llmagentos.codecs import pack
from llmagentos.codecs.container import LARGEST_HEADER_BYTES
from llmagentos.engines.carrier import Carrier, Parcel
from llmagentos.engines.engine import Reply
from llmagentos.errors import Damaged, QuorumError
from llmagentos.identity import Header, Member, PrivateKey, key_of, name_of, open_sealed, seal
from llmagentos.identity.envelope import LARGEST_ENVELOPE_BYTES
from llmagentos.messages import Roster, Task
from llmagentos.tasks import encode_task

log = logging.getLogger(__name__)

BYTES_A_VALUE = 16
"""The most that an answer takes for a value: two vectors, and no codec takes more than 8 bytes."""


class RemoteEngine:
    """Sends signed tasks and passes on the answers that their agents signed.

    A revoked agent is not asked. ``enrolled`` says before each round who is a member; without it
    that stays as it is. An answer that is not signed by its agent, or not to the task that
    was asked last, never reaches the gate: the former is asked again, the latter is dropped.
    """

    def __init__(
        self,
        carrier: Carrier,
        members: Mapping[str, Member],
        key: PrivateKey,
        base: str,
        enrolled: Callable[[], Mapping[str, Member]] | None = None,
    ) -> None:
        self.carrier = carrier
        self.enrolled = enrolled or (lambda: members)
        self.key = key
        self.base = base
        self._asked: dict[str, tuple[Task, Header]] = {}
        self.renew()

    @property
    def roster(self) -> Roster:
        """The enrolled agents, with what they declared."""
        return {name: member.enrolled for name, member in self.members.items()}

    def renew(self) -> None:
        """Whoever is revoked at this moment is neither asked nor heard.

        Raises ``QuorumError`` where that is everybody.
        """
        known = self.enrolled().items()
        self.members = {name: member for name, member in known if not member.revoked}
        if not self.members:
            raise QuorumError("everybody is revoked; enrol an agent, and start again")
        for agent in self._asked.keys() - self.members.keys():
            del self._asked[agent]

    def send(self, task: Task) -> None:
        """Seal a task and hand it to the carrier; asked again it is the same, byte for byte."""
        asked = self._asked.get(task.agent)
        if asked is None or asked[0] is not task:
            asked = self._asked[task.agent] = task, self._header(task)
        self.carrier.send(task.agent, seal(asked[1], encode_task(task), self.key))

    def _header(self, task: Task) -> Header:
        return Header(
            run=task.run,
            round=task.round,
            kind=task.kind,
            agent=task.agent,
            sender=name_of(self.key),
            recipient=self.members[task.agent].key,
            base=self.base,
            nonce=secrets.token_hex(16),
            weight=0.0,
        )

    def poll(self, timeout_s: float | None = None) -> list[Reply]:
        """The answers that came, opened; nothing where only late ones or strangers' did."""
        parcels = self.carrier.poll(timeout_s)
        return [reply for reply in map(self._reply, parcels) if reply is not None]

    def _reply(self, parcel: Parcel) -> Reply | None:
        agent = parcel.agent
        if agent not in self._asked:
            log.warning("a parcel of %r, who was not asked; dropped", agent)
            return None
        try:
            return self._opened(parcel)
        except Damaged as reason:
            log.warning("answer of agent %r: %s", agent, reason)
            return Reply(agent, pack({"unsealed": str(reason)}, {}))

    def _opened(self, parcel: Parcel) -> Reply | None:
        task, header = self._asked[parcel.agent]
        largest = LARGEST_ENVELOPE_BYTES + LARGEST_HEADER_BYTES + BYTES_A_VALUE * task.layout.size
        own, theirs = self.key.public_key(), key_of(header.recipient)
        sealed = open_sealed(parcel.body, theirs, own, largest)
        if sealed.header.nonce != header.nonce:
            log.info("a late answer of agent %r for round %d; dropped", parcel.agent, task.round)
            return None
        if sealed.header.base != self.base:
            raise Damaged(f"its base model is {sealed.header.base[:12]}, not the agreed one")
        return Reply(parcel.agent, bytes(sealed.payload))

    def close(self) -> None:
        """Close the carrier."""
        self.carrier.close()
