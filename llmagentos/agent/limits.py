"""What an organisation agrees to, whatever its coordinator asks."""

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from llmagentos.aggregation import METHODS, chapters, rank_of
from llmagentos.errors import Refused
from llmagentos.messages import KINDS, Task
from llmagentos.settings import (
    LocalSettings,
    PrivacySettings,
    RunSettings,
    ServerSettings,
    asked_codec,
    asked_personal,
    asked_privacy,
)
from llmagentos.settings.checks import require
from llmagentos.settings.privacy import check_veil


@dataclass(frozen=True)
class Limits:
    """The most that one run may ask of an agent, and the least that an update is made from."""

    rounds: int = 100
    """Most rounds of a run."""
    steps: int = 200
    """Most optimizer steps in a round, those of an adapter of the agent's own among them."""
    epochs: float = 5.0
    """Most passes over the agent's own rows in a round."""
    examples: int = 20
    """Fewest training rows: an update that is made from less says too much about each."""
    rows: int = 8
    """Fewest of them in one round: its answer tells their mean loss."""
    held_out: int = 2
    """Fewest held-out rows whose mean loss is told."""
    strategies: tuple[str, ...] = get_args(get_type_hints(ServerSettings)["strategy"])
    """What the coordinator may do with the update, as its signed task says."""
    aggregations: tuple[str, ...] = get_args(get_type_hints(RunSettings)["aggregation"])
    """How it may aggregate the factors of the adapter."""
    residual_rank: int = 64
    """Highest rank of what it may add to the base beside the adapter, all rounds together."""
    clip: float | None = None
    """Largest norm of a change that leaves: the task must ask for it to be shortened to this or
    less (``privacy.clip``). As long as it is unless given."""
    noise: float = 0.0
    """Least noise on a change that leaves (``privacy.noise``), in units of its largest norm."""
    codecs: tuple[str, ...] = ("fp32", "bf16", "fp16", "int8", "top_k")
    """How the change may be coded."""
    kinds: tuple[str, ...] = KINDS
    """What may be asked: ``fit``, ``evaluate``, ``measure``."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "epochs", "examples", "rows", "held_out", "residual_rank"):
            value = getattr(self, name)
            require(value > 0, f"limits.{name}", value, "needs to be above 0")
        check_veil("limits", self.clip, self.noise)


def check_limits(task: Task, limits: Limits, examples: int) -> None:
    """Raise ``Refused``, naming the limit, for a task beyond it; ``examples`` are training rows."""
    if task.kind not in limits.kinds:
        raise Refused(f"kind={task.kind!r}: I agreed to {', '.join(limits.kinds)}")
    _check_vectors(task)
    _most("rounds", task.round, limits.rounds)
    _most("residual_rank", _rank_beside(task), limits.residual_rank)
    if task.kind == "fit":
        _check_fit(task, limits, examples)
    else:
        _least("held_out", task.settings.get("rows"), limits.held_out)


def _check_vectors(task: Task) -> None:
    """No vector comes that these limits do not count: some names mean more inside an agent."""
    strange = task.vectors.keys() - chapters(task.vectors) - {"adapter", "control"}
    if strange:
        raise Refused(f"vector {min(strange)!r}: I know adapter, control and residual.<round>")


def _rank_beside(task: Task) -> int:
    """The rank of what a task adds to the base beside the adapter."""
    layouts = (task.layout.fitting(chapter) for chapter in chapters(task.vectors).values())
    return sum(rank_of(layout) for layout in layouts)


def _check_fit(task: Task, limits: Limits, examples: int) -> None:
    local = LocalSettings(**{f.name: _asked(task, f.name) for f in fields(LocalSettings)})
    _least("examples", examples, limits.examples)
    steps = local.steps + asked_personal(task.settings).steps_beside(local.steps)
    _most("steps", steps, limits.steps)
    rows_of_a_step = local.accumulation * local.batch
    _most("epochs", steps * rows_of_a_step / examples, limits.epochs)
    _least("rows", min(examples, local.steps * rows_of_a_step), limits.rows)
    _among("codecs", asked_codec(task.settings).name, limits.codecs)
    _among("strategies", _asked(task, "strategy"), limits.strategies)
    _among("aggregations", _asked(task, "aggregation"), limits.aggregations)
    _check_parts(task)
    _check_privacy(asked_privacy(task.settings), limits)


def _check_parts(task: Task) -> None:
    """What is trained and what leaves are the parts that the task's aggregation has."""
    asked = task.settings
    method = METHODS[asked["aggregation"]]
    parts = {"trained": method.trained_in(task.round), "sent": method.sent_in(task.round)}
    for name, part in parts.items():
        said = asked.get(name, "both")
        if said != part:
            raise Refused(f"{name}={said!r}: aggregation={asked['aggregation']!r} has {part!r}")
    if parts["sent"] != "both" and asked.get("beside"):
        raise Refused(f"beside={asked['beside']!r}: of the adapter only {parts['sent']} leaves")


def _check_privacy(asked: PrivacySettings, limits: Limits) -> None:
    if limits.clip is not None:
        _most("privacy.clip", asked.clip, limits.clip)
    _least("privacy.noise", asked.noise, limits.noise)


def _asked(task: Task, name: str) -> Any:
    if name not in task.settings:
        raise Refused(f"the task does not say {name}; use the same version on both sides")
    return task.settings[name]


def _most(name: str, asked: Any, limit: float) -> None:
    if not (isinstance(asked, int | float) and asked <= limit):
        raise Refused(f"{name}={asked!r}: I agreed to at most {limit:g}")


def _least(name: str, asked: Any, limit: float) -> None:
    if not (isinstance(asked, int | float) and asked >= limit):
        raise Refused(f"{name}={asked!r}: I agreed to {limit:g} or more")


def _among(name: str, asked: Any, allowed: tuple[str, ...]) -> None:
    if asked not in allowed:
        raise Refused(f"{name}={asked!r}: I agreed to {', '.join(allowed)}")
