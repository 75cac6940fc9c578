"""What came of a run: before and after, its rivals, and how to read them in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmagentos.report.quantities import Number, decimal, known, mean, perplexity

OVERALL = "mean of agents"
ALIKE = 0.01
"""Losses, in nats per token, that lie this close are called alike."""


@dataclass(frozen=True)
class Change:
    """Held-out loss (nats per token) and accuracy of one agent, before and after."""

    agent: str
    tokens: Number
    loss: tuple[Number, Number]
    accuracy: tuple[Number, Number]

    @property
    def perplexity(self) -> tuple[Number, Number]:
        """Exponential of the losses."""
        return perplexity(self.loss[0]), perplexity(self.loss[1])

    @property
    def relative(self) -> Number:
        """Change of the loss over the loss before; below zero is better."""
        before, after = self.loss
        return (after - before) / before if before and after is not None else None


def changes(summary: Mapping[str, Any]) -> list[Change]:
    """One row an agent, in the order of the summary."""
    before, after = summary["before"], summary["after"]
    return [_change(agent, before, after) for agent in dict.fromkeys([*before, *after])]


def overall(rows: Sequence[Change]) -> Change:
    """The plain mean over the agents that have numbers before and after; tokens are summed.

    Its name says how many they are where some have not, as one that was revoked on the way.
    """
    both = [row for row in rows if None not in row.loss] or rows
    name = OVERALL if len(both) == len(rows) else f"mean of {len(both)} of {len(rows)} agents"
    loss = mean(row.loss[0] for row in both), mean(row.loss[1] for row in both)
    accuracy = mean(row.accuracy[0] for row in both), mean(row.accuracy[1] for row in both)
    return Change(name, sum(known(row.tokens for row in both)), loss, accuracy)


def _change(agent: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    first, last = before.get(agent, {}), after.get(agent, {})
    loss = first.get("loss"), last.get("loss")
    accuracy = first.get("accuracy"), last.get("accuracy")
    return Change(agent, last.get("tokens"), loss, accuracy)


@dataclass(frozen=True)
class Rival:
    """One way to train, and its held-out loss on every silo."""

    name: str
    losses: Mapping[str, Number]
    home: str | None = None
    """The agent whose text alone was read; ``None`` where everybody's was."""

    @property
    def own(self) -> Number:
        """Loss at home; the mean over silos where every silo is home."""
        return self.losses.get(self.home) if self.home else mean(self.losses.values())

    @property
    def others(self) -> Number:
        """Mean loss on the silos of the others; over all silos where there is no home."""
        return mean(loss for silo, loss in self.losses.items() if silo != self.home)


def rivals(summary: Mapping[str, Any]) -> list[Rival]:
    """The federated adapter, each agent's own and the central one; empty without a comparison."""
    compare = summary.get("compare")
    if not compare:
        return []
    after = {agent: score.get("loss") for agent, score in summary["after"].items()}
    local = [
        Rival(f"local: {agent}", {silo: losses.get(silo) for silo in after}, home=agent)
        for agent, losses in (compare.get("local") or {}).items()
    ]
    central = compare.get("central")
    pooled = [Rival("central", {silo: central.get(silo) for silo in after})] if central else []
    return [Rival("federated", after), *local, *pooled]


def local_mean(rows: Sequence[Rival]) -> tuple[Number, Number]:
    """Mean loss of the local-only adapters at home, and on the silos of the others."""
    local = [row for row in rows if row.home]
    return mean(row.own for row in local), mean(row.others for row in local)


def reading(rows: Sequence[Rival]) -> list[str]:
    """Sentences that say who is better where, from the numbers of the comparison alone."""
    federated = next((row.own for row in rows if row.name == "federated"), None)
    if federated is None:
        return []
    home, away = local_mean(rows)
    central = next((row.own for row in rows if row.name == "central"), None)
    sentences = [
        compared("On their own silos the local-only adapters are", home, federated),
        compared("On the silos of the others they are", away, federated),
        compared("Central training on everybody's text is", central, federated),
    ]
    return [sentence for sentence in sentences if sentence]


def compared(
    subject: str, loss: Number, other: Number, than: str = "the federated one"
) -> str | None:
    """A sentence that says whether one loss is better than another; None if either is unknown."""
    if loss is None or other is None:
        return None
    gap = loss - other
    if abs(gap) < ALIKE:
        verdict = f"as good as {than}"
    else:
        verdict = f"{'worse' if gap > 0 else 'better'} than {than} by {abs(gap):.2f}"
    return f"{subject} {verdict} (loss {decimal(loss)} against {decimal(other)})."
