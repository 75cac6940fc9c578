"""Shared and personal adapters side by side, at home and away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmagentos.report.quantities import Number, mean
from llmagentos.report.result import OVERALL, compared


@dataclass(frozen=True)
class Place:
    """Held-out losses in nats per token of the adapters that an agent may compute with.

    ``shared`` is all agents' adapter, ``personal`` the agent's own, ``local`` one that it trained
    with nobody; None where there is none or it was not measured.
    """

    shared: Number
    personal: Number
    local: Number


@dataclass(frozen=True)
class Standing:
    """What an agent has of each adapter on its own silo, and in the mean on those of the others."""

    agent: str
    home: Place
    away: Place


def standings(summary: Mapping[str, Any]) -> list[Standing]:
    """One row an agent; empty for a run without personal adapters."""
    personal, local = summary.get("personal") or {}, (summary.get("compare") or {}).get("local", {})
    shared = {agent: _shared(score) for agent, score in summary["after"].items()}
    return [
        Standing(
            agent,
            Place(shared.get(agent), losses.get(agent), local.get(agent, {}).get(agent)),
            Place(_away(agent, shared), _away(agent, losses), _away(agent, local.get(agent, {}))),
        )
        for agent, losses in personal.items()
    ]


def overall_standing(rows: Sequence[Standing]) -> Standing:
    """The plain mean over agents."""
    return Standing(OVERALL, _mean([row.home for row in rows]), _mean([row.away for row in rows]))


def personal_reading(rows: Sequence[Standing]) -> list[str]:
    """Sentences that say where the personal adapters are better, from the numbers alone."""
    if not rows:
        return []
    home, away = overall_standing(rows).home, overall_standing(rows).away
    subjects = "On their own silos the personal adapters are", "On the silos of the others they are"
    sentences = [
        compared(subject, place.personal, other, than)
        for subject, place in zip(subjects, (home, away), strict=True)
        for than, other in (("the shared one", place.shared), ("the local-only ones", place.local))
    ]
    return [sentence for sentence in sentences if sentence]


def _shared(score: Mapping[str, Any]) -> Number:
    """The loss of the shared adapter, which an agent without one of its own factors has alone."""
    return score.get("loss") if "personal_loss" in score else None


def _away(agent: str, losses: Mapping[str, Number]) -> Number:
    return mean(loss for silo, loss in losses.items() if silo != agent)


def _mean(places: Sequence[Place]) -> Place:
    return Place(
        mean(place.shared for place in places),
        mean(place.personal for place in places),
        mean(place.local for place in places),
    )
