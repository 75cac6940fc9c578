"""Who holds the wire between a coordinator and its agents, and what they do to what they carry."""

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from llmagentos.engines.carrier import Parcel
from llmagentos.identity import PrivateKey, PublicKey, name_of, open_sealed, seal
from llmagentos.identity.envelope import MAGIC

LARGER = bytes(1 << 24)
"""More than any envelope of these tests may have."""


@dataclass(frozen=True)
class Bomb:
    """Unpickled, it leaves a file."""

    file: Path

    def __reduce__(self):
        return Path.touch, (self.file,)


@dataclass(frozen=True)
class Tools:
    """What faults are made with: draws, keys that do not belong, a file that may never exist."""

    rng: Random
    stranger: PrivateKey
    revoked: PrivateKey
    bomb: Path

    @property
    def pickled(self) -> bytes:
        """A pickle that makes the file when it is loaded."""
        return pickle.dumps(Bomb(self.bomb))


@dataclass(frozen=True)
class Caught:
    """An envelope on its way, between whom it is, and what can be done to it."""

    body: bytes
    sender: PublicKey
    recipient: PublicKey
    tools: Tools

    def flipped(self) -> bytes:
        whole = bytearray(self.body)
        whole[self.tools.rng.randrange(len(whole))] ^= 1 << self.tools.rng.randrange(8)
        return bytes(whole)

    def truncated(self) -> bytes:
        return self.body[: self.tools.rng.randrange(len(self.body))]

    def claiming_gigabytes(self) -> bytes:
        length = self.tools.rng.randrange(1 << 30, 1 << 32).to_bytes(4, "little")
        return self.body[: len(MAGIC)] + length + self.body[len(MAGIC) + 4 :]

    def signed(self, key: PrivateKey, **header: str) -> bytes:
        """The same words, but for some of the header's, in a signature by another key."""
        sealed = open_sealed(self.body, self.sender, self.recipient, len(LARGER))
        return seal(replace(sealed.header, **header), bytes(sealed.payload), key)

    def signed_openly(self, key: PrivateKey) -> bytes:
        return self.signed(key, sender=name_of(key))


DAMAGES: dict[str, Callable[[Caught], bytes]] = {
    "bit-flipped": Caught.flipped,
    "truncated": Caught.truncated,
    "a header that claims gigabytes": Caught.claiming_gigabytes,
    "larger than the layout allows": lambda caught: caught.body + LARGER,
    "signed by a stranger": lambda caught: caught.signed(caught.tools.stranger),
    "signed by a stranger in its own name": lambda c: c.signed_openly(c.tools.stranger),
    "signed by a revoked agent": lambda caught: caught.signed(caught.tools.revoked),
    "signed by a revoked agent in its own name": lambda c: c.signed_openly(c.tools.revoked),
    "a pickle": lambda caught: caught.tools.pickled,
    "a pickle behind an envelope's first bytes": lambda c: c.body[:12] + c.tools.pickled,
    "a path": lambda caught: str(caught.tools.bomb).encode(),
    "nothing": lambda _: b"",
}
"""What makes an envelope worthless; whoever waits for it asks again."""

MOST_DAMAGES = 2
"""A third worthless answer to one task would be refused for good."""

PASSING = ("untouched", "lost", "duplicated", "stale", "replayed from another run")
"""What happens to an envelope that arrives whole, if it does."""


class Wire:
    """Carries to desks in this process; draws what it does to each body on each of its two ways.

    ``keys`` are the public ones of the agents and, as ``""``, of the coordinator; ``recorded`` is
    what another run sent, by way and agent. Time passes while nothing is under way. ``tried``
    counts what was done, by kind.
    """

    def __init__(self, answers, keys, tools: Tools, recorded) -> None:
        self.answers, self.keys, self.tools, self.recorded = answers, keys, tools, recorded
        self.now = 0.0
        self.asked: dict[str, bytes] = {}
        self.waiting: list[Parcel] = []
        self.past: dict[tuple[str, str], list[bytes]] = {}
        self.damaged: Counter[bytes] = Counter()
        self.tried: Counter[str] = Counter()

    def send(self, agent: str, body: bytes) -> None:
        self.asked[agent] = body
        self.waiting += self._faulty("task", agent, body)

    def poll(self, timeout_s=None) -> list[Parcel]:
        """The answers to a few of the tasks that are under way, in any order."""
        if not self.waiting:
            self.now += timeout_s
        back: list[Parcel] = []
        for _ in range(min(len(self.waiting), self.tools.rng.randint(1, 4))):
            place = self.tools.rng.randrange(len(self.waiting))
            self.tried["task overtaken by another"] += place > 0
            back += self._answered(*self.waiting.pop(place))
        ordered = [*back]
        self.tools.rng.shuffle(back)
        self.tried["answer overtaken by another"] += back != ordered
        return back

    def _answered(self, agent: str, body: bytes) -> list[Parcel]:
        """What comes back of a task; what its agent could not read is lost where it would be
        the third worthless answer."""
        answer = self.answers[agent](body)
        if body == self.asked[agent]:
            return self._faulty("answer", agent, answer)
        worthless = answer.startswith(b"refused: ")
        if worthless and not self._may_damage(agent):
            return []
        self.damaged[self.asked[agent]] += worthless
        return [Parcel(agent, answer)]

    def _may_damage(self, agent: str) -> bool:
        return self.damaged[self.asked[agent]] < MOST_DAMAGES

    def _faulty(self, way: str, agent: str, body: bytes) -> list[Parcel]:
        """What arrives where a body was sent."""
        past = self.past.setdefault((way, agent), [body])
        names = [*PASSING, *(DAMAGES if self._may_damage(agent) else ())]
        name = self.tools.rng.choice(names)
        self.tried[f"{way} {name}"] += name != "untouched"
        arriving = self._bodies(name, way, agent, body)
        past.append(body)
        return [Parcel(agent, each) for each in arriving]

    def _bodies(self, name: str, way: str, agent: str, body: bytes) -> list[bytes]:
        draw = self.tools.rng.choice
        match name:
            case "untouched":
                return [body]
            case "lost":
                return []
            case "duplicated":
                return [body, body]
            case "stale":
                return [draw(self.past[way, agent]), body]
            case "replayed from another run":
                return [draw(self.recorded[way, agent]), body]
        self.damaged[self.asked[agent]] += way == "answer"
        own, theirs = self.keys[""], self.keys[agent]
        sender, recipient = (own, theirs) if way == "task" else (theirs, own)
        return [DAMAGES[name](Caught(body, sender, recipient, self.tools))]

    def close(self) -> None:
        self.waiting.clear()
