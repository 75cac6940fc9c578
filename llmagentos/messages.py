"""All that travels between the server and the agents."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any, Literal, get_args

from llmagentos.codecs import Parts, pack, unpack
from llmagentos.errors import Damaged, SettingError
from llmagentos.fields import fits, is_number, is_text, one_line, sane
from llmagentos.layout import Layout, Vector

Kind = Literal["fit", "evaluate", "measure"]
"""``fit`` trains; ``evaluate`` reads a few held-out rows, ``measure`` more of them."""

MOMENTS = "moments"
"""What the names of vectors begin with that an agent's optimizer has learnt and the agent keeps."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Task:
    """What one agent is asked to do, with the vectors that it needs.

    ``vectors["adapter"]`` is the global adapter, ``(d,)`` float32 in the order of ``layout``, or
    the part of it that was ``given``; ``control`` is SCAFFOLD's control variate. What a method adds
    to the base beside the adapter comes in chapters that ``residuals`` names, in the same layout at
    ranks of their own; an agent keeps those that it had. On its way to the trainer a task gets from
    the agent itself: the whole adapter, the chapters in one ``residual``, the ``linear`` term of a
    correction, the ``anchor`` of a pull where that is not the adapter, and ``MOMENTS``.

    ``settings`` says how. For ``fit`` it has the fields of ``LocalSettings``, ``codec`` and
    ``privacy`` with those of ``CodecSettings`` and ``PrivacySettings``, ``horizon``, the rounds
    that the learning rate's schedule is over, ``weighting``, what the update's weight counts, and
    the names of ``strategy`` and ``aggregation``; for the two evaluations ``rows`` and ``batch``.
    For all of them, where a method says so: which part is ``trained``, which is ``sent``, and
    ``personal`` with the fields of ``PersonalSettings``. Some strategies tell more: ``correction``
    names what the agent adds to its gradients, ``beside`` the vectors that it sends beside the
    delta, and ``normalised`` asks for the metric ``step_weight``, how many whole steps the
    gradients of the round count for.

    ``seed`` is the run's, and what is drawn comes from it with agent and round. ``receipt`` is the
    last round of this agent that was counted.
    """

    run: str
    round: int
    kind: Kind
    agent: str
    vectors: Mapping[str, Vector]
    layout: Layout
    seed: int
    receipt: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sent(self) -> slice:
        """Where the values lie that the answer's change has: all of them unless the task says."""
        return self.layout.part(self.settings.get("sent", "both"))

    @property
    def values(self) -> int:
        """How many values the answer's change has."""
        return len(range(*self.sent.indices(self.layout.size)))

    @property
    def carried(self) -> tuple[str, ...]:
        """The names of the vectors that the answer to a fit task holds."""
        return ("delta", *self.settings.get("beside", ()))


@dataclass(frozen=True)
class Update:
    """An agent's answer: ``vectors["delta"]`` is local minus global, float32 ``(d,)``, or
    that of the part that the task asks for.

    Where the task asks for a codec, its parts stand there instead, such as ``delta.q``; vectors
    that the task wants beside it are coded alike.
    ``weight`` is what the agent counts for in an average; ``metrics`` are plain numbers.
    """

    run: str
    round: int
    kind: Kind
    agent: str
    layout: str
    """Hash of the layout that the vectors follow."""
    vectors: Parts = field(default_factory=dict)
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why an agent has no update in a round: an absent agent is data, not an exception."""

    run: str
    round: int
    kind: Kind
    agent: str
    reason: str


def check_layout(task: Task, layout: Layout) -> None:
    """Raise ``SettingError`` unless the task is for this layout or one that lies within it."""
    if not task.layout.within(layout):
        raise SettingError(
            f"run {task.run!r} trains an adapter of {task.layout.size} values, agent "
            f"{task.agent!r} has one of {layout.size}; give both the same lora settings"
        )


def answer(task: Task, **fields: Any) -> Update:
    """The update that answers a task, with its run, round, kind, agent and layout."""
    return Update(task.run, task.round, task.kind, task.agent, task.layout.hash, **fields)


def failure(task: Task, reason: str) -> Failure:
    """The failure that answers a task."""
    return Failure(task.run, task.round, task.kind, task.agent, reason)


@dataclass(frozen=True)
class Enrolled:
    """What an agent declared when it joined: how much it may weigh."""

    examples: float = 1
    tokens: float = 1

    def weight(self, weighting: str) -> float:
        """The most that an update of this agent may weigh."""
        return {"examples": self.examples, "tokens": self.tokens, "uniform": 1}[weighting]


Roster = Mapping[str, Enrolled]


ADDRESS = {"run": str, "round": int, "kind": str, "agent": str}
"""The fields that every message has."""
_UPDATE = ADDRESS | {"layout": str, "weight": float, "metrics": dict}
_FAILURE = ADDRESS | {"reason": str}


def encode(message: Update | Failure) -> bytes:
    """The wire file of an answer; a number that is not finite travels as null."""
    if isinstance(message, Failure):
        return pack(vars(message) | {"reason": one_line(message.reason)}, {})
    fields = {name: getattr(message, name) for name in _UPDATE}
    fields["weight"] = _json_number(message.weight)
    fields["metrics"] = {name: _json_number(value) for name, value in message.metrics.items()}
    return pack(fields, message.vectors)


def _json_number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def decode(body: Any) -> Update | Failure:
    """The answer in a wire file; its vectors are views of ``body``.

    Raises ``Damaged`` when the bytes are not exactly an answer. What it says is not checked here.
    """
    fields, vectors = unpack(body)
    if "weight" in fields:
        fields["weight"] = _number(fields["weight"])
    known = sane(fields) and fields.get("kind") in KINDS
    if known and fits(fields, _FAILURE) and not vectors:
        return Failure(**fields)
    if not known or not fits(fields, _UPDATE) or not _named([*fields["metrics"], *vectors]):
        raise Damaged(f"not an answer: {ascii(fields)[:120]}")
    metrics = {name: _number(value) for name, value in fields.pop("metrics").items()}
    return Update(**fields, vectors=vectors, metrics=metrics)


def _named(names: Iterable[str]) -> bool:
    """Whether metrics or vectors are called by words that can be written to a log."""
    return all(map(is_text, names))


def _number(value: Any) -> float:
    """A JSON number as a float, null as NaN."""
    if value is None:
        return nan
    if not is_number(value):
        raise Damaged(f"not a plain number: {ascii(value)[:40]}")
    return float(value)
