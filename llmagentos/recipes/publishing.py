"""What a run leaves after every round: adapters, metrics, tracked numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from llmagentos.aggregation import in_one
from llmagentos.corpus import heterogeneity
from llmagentos.journal import Journal
from llmagentos.publish import at_rank, model_card, write_peft_folder
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session

Metrics = Mapping[str, Mapping[str, float]]


def publish(folder: RunFolder, journal: Journal, session: Session) -> None:
    """The folder shows the last closed round; publishing it again changes nothing.

    ``adapter/`` is the global adapter, ``best/`` that of the lowest held-out loss. What a method
    keeps beside the base is in them, at the sum of the ranks.
    """
    reports = journal.reports()
    if not reports:
        return
    folder.write_metrics(reports)
    adapter = in_one(journal.state())
    config = at_rank(session.peft_config(), adapter.layout.pairs[0].rank)
    best = best_round(reports) == reports[-1]["round"]
    for place in (folder.adapter, folder.best) if best else (folder.adapter,):
        card = model_card(card_facts(place, journal, session))
        write_peft_folder(place, adapter, config, card)
    journal.forget(updates=not session.settings.keep_updates)


def best_round(reports: Sequence[Mapping[str, Any]]) -> int | None:
    """The first round of the lowest held-out loss; None where nothing was evaluated."""
    losses = [(r["loss"], r["round"]) for r in reports if r["loss"] is not None]
    return min(losses)[1] if losses else None


def card_facts(place: Path, journal: Journal, session: Session) -> dict[str, Any]:
    """What the model card tells; losses before only where those after are of the same rows."""
    reports = journal.reports()
    last = {agent: {"loss": loss} for agent, loss in reports[-1]["agents"].items()}
    after = metrics_after(journal, len(reports))
    return {
        "name": place.parent.name,
        "base": session.settings.model.source,
        "folder": str(place),
        "rounds": len(reports),
        "silos": silos_of(session, reports),
        "before": metrics_after(journal, 0) if after else {},
        "after": after or last,
        "settings": asdict(session.settings),
    }


def silos_of(session: Session, reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an agent; of agents elsewhere it is known that they counted, not what they hold."""
    if not session.settings.dialled:
        return heterogeneity(session.silos)
    counted = sorted({agent for report in reports for agent in report["weights"]})
    return [{"agent": agent, "train": "", "held_out": ""} for agent in counted]


def metrics_after(journal: Journal, rounds: int) -> Metrics:
    """Held-out metrics by agent after some rounds, where they were measured and are numbers."""
    answers = journal.answers.admitted(rounds, "measure")
    return {answer.update.agent: finite(answer.update.metrics) for answer in answers}


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of an agent's metrics that JSON has a form for."""
    return {name: value for name, value in metrics.items() if isfinite(value)}
