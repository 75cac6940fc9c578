"""What a run came to."""

from collections.abc import Mapping
from typing import Any

from llmagentos.adapter import refit
from llmagentos.corpus import heterogeneity, prompt_ids
from llmagentos.journal import Journal
from llmagentos.lm.answer import answer
from llmagentos.lm.lora import load_vector
from llmagentos.lm.residual import beside, residual_of
from llmagentos.messages import Task
from llmagentos.publish import loading_lines
from llmagentos.recipes.publishing import best_round, metrics_after
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.recipes.session import Session

ANSWER_TOKENS = 24
"""New tokens of a sample answer."""


def summarise(
    journal: Journal,
    session: Session,
    folder: RunFolder,
    compared: Mapping[str, Any] | None,
    own: Task,
) -> dict[str, Any]:
    """``summary.json``: losses before and after, totals, a sample answer, the comparison if any.

    ``own`` has all that the first silo's agent computes with.
    """
    reports, model = journal.reports(), session.settings.model.source
    return {
        "name": folder.path.name,
        "run": journal.run,
        "rounds": len(reports),
        "seconds": round(sum(report["seconds"] for report in reports), 3),
        "bytes_up": sum(report["bytes_up"] for report in reports),
        "bytes_up_fp32": sum(report["bytes_up_fp32"] for report in reports),
        "bytes_down": sum(report["bytes_down"] for report in reports),
        "best_round": best_round(reports),
        "codec": session.settings.codec.name,
        "trainable": session.layout.size,
        "model": model,
        "adapter": str(folder.adapter),
        "load": loading_lines(model, str(folder.adapter), session.settings.seed),
        "before": metrics_after(journal, 0),
        "after": metrics_after(journal, len(reports)),
        "compare": compared,
        "sample": sample_answers(own, session),
        "silos": [] if session.settings.dialled else heterogeneity(session.silos),
    }


def sample_answers(own: Task, session: Session) -> dict[str, str]:
    """One prompt, answered by the base model and with the adapter of the first silo's agent."""
    silo, asked = session.silos[0], session.settings.sample_prompt
    prompt = prompt_ids(asked or silo.sample, session.base.tokenizer, session.settings.corpus)
    model, tokenizer = session.model, session.base.tokenizer
    load_vector(model, refit(own.vectors["adapter"], own.layout, session.layout))
    with beside(model, session.layout, residual_of(own, session.layout)):
        after = answer(model, tokenizer, prompt, ANSWER_TOKENS)
    load_vector(model, session.start)
    before = answer(model, tokenizer, prompt, ANSWER_TOKENS)
    told = (
        {"prompt": asked}
        if asked
        else {
            "agent": silo.name,
            "prompt": silo.sample.prompt,
            "expected": silo.sample.response,
        }
    )
    return {**told, "before": before, "after": after}
