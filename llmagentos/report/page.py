"""The report: one HTML file that needs nothing beside itself."""

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from llmagentos.report.agent_lines import (
    delta_norms,
    draw_agents,
    held_out_loss,
    personal_loss,
    training_loss,
)
from llmagentos.report.cosines import draw_cosines, draw_multiples
from llmagentos.report.drawing import Chart
from llmagentos.report.lines import saving
from llmagentos.report.personal import overall_standing, personal_reading, standings
from llmagentos.report.quantities import (
    ABSENT,
    count,
    decimal,
    duration,
    known,
    label,
    percent,
    printable,
    rounded,
    size,
)
from llmagentos.report.records import RunRecords
from llmagentos.report.result import (
    changes,
    local_mean,
    overall,
    reading,
    rivals,
)
from llmagentos.report.tables import silo_cell
from llmagentos.report.totals import draw_bytes, draw_product_error, draw_seconds, draw_weights

_NORMS_NOTE = "Their average is shorter than they are where they point apart."
NATS = "nats per token"
MOST_SILOS = 12
"""Columns of the comparison; with more silos it keeps the means only."""


def render(run: RunRecords) -> str:
    """The report of a run, finished or not; the same records give the same text.

    Names, prompts and answers are escaped: they come from outside.
    """
    return _template().render(_context(run))


def _context(run: RunRecords) -> dict[str, Any]:
    """What the template names: the records, their tables and their drawings."""
    return {
        "run": run,
        "title": label(run.name, 60),
        "refused": [
            (record["round"], agent, reason)
            for record in run.rounds
            for agent, reason in (record.get("refused") or {}).items()
        ],
        "loss": next(reversed(known(run.total("loss"))), None),
        "seconds": sum(known(run.total("seconds"))),
        "bytes_up": sum(known(run.total("bytes_up"))),
        "ledger": _ledger(run),
        "bytes_down": sum(known(run.total("bytes_down"))),
        "charts": _charts(run) if run.rounds else [],
        "cosines": draw_cosines(run),
        "multiples": draw_multiples(run),
        **(_result(run.summary) if run.summary else {}),
    }


def _ledger(run: RunRecords) -> dict[str, Any]:
    """Bytes that all rounds sent up, what they would be in float32, and the codec."""
    totals = {key: sum(known(run.total(key))) for key in ("bytes_up", "bytes_up_fp32")}
    return {**totals, "codec": run.rounds[-1].get("codec")} if run.rounds else totals


def _result(summary: Any) -> dict[str, Any]:
    rows, rows_of_rivals, own = changes(summary), rivals(summary), standings(summary)
    losses = known(loss for row in rows_of_rivals for loss in row.losses.values())
    return {
        "summary": summary,
        "changes": rows,
        "overall": overall(rows),
        "highest": max(known(loss for row in rows for loss in row.loss), default=0.0),
        "rivals": rows_of_rivals,
        "standings": own,
        "overall_standing": overall_standing(own),
        "personal_reading": personal_reading(own),
        "silos": list(summary["after"]) if len(summary["after"]) <= MOST_SILOS else [],
        "span": (min(losses, default=0.0), max(losses, default=0.0)),
        "local_mean": local_mean(rows_of_rivals),
        "reading": reading(rows_of_rivals),
        "load_lines": summary["load"].splitlines(),
    }


def _charts(run: RunRecords) -> list[Chart]:
    by_agent = [
        (held_out_loss(run), "Held-out loss", NATS, _rows_note(run)),
        (personal_loss(run), "Held-out loss of the personal adapters", NATS, "Each at home."),
        (training_loss(run), "Training loss", NATS, "Mean over the steps of each agent."),
        (delta_norms(run), "Size of the deltas", "L2 norm", _NORMS_NOTE),
    ]
    lines = [draw_agents(*drawing) for drawing in by_agent if drawing[0].measured]
    missed = [draw_product_error(run)] if known(run.total("product_error")) else []
    return [*lines, *missed, draw_weights(run), draw_bytes(run), draw_seconds(run)]


def _rows_note(run: RunRecords) -> str:
    """How many rows the losses stand on, which differ between round 0 and the rounds."""
    rows = run.resolved.get("evaluation")
    if not rows:
        return ""
    every = rows.get("every", 1)
    when = f"every {every} rounds " if every > 1 else ""
    read = f"Read {when}on up to {rows['rows']} held-out rows of each agent"
    return read + (f", at round 0 on up to {rows['final_rows']}." if run.summary else ".")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "label": label,
        "printable": printable,
        "count": lambda value: _minus(count(value)),
        "decimal": lambda *given: _minus(decimal(*given)),
        "percent": lambda *given: _minus(percent(*given)),
        "rounded": lambda value: _minus(rounded(value)),
        "cell": lambda value: _minus(silo_cell(value)),
        "size": size,
        "saving": saving,
        "duration": duration,
    }
    return environment.from_string(files(__package__).joinpath("template.html").read_text("utf-8"))


def _minus(number: str) -> str:
    """The number with a typographer's minus; a lone hyphen, for no number, becomes a dash."""
    if number == ABSENT:
        return "\N{EN DASH}"
    return number.replace("-", "\N{MINUS SIGN}", 1) if number.startswith("-") else number
