"""How well an adapter predicts held-out text: ``python -m llmagentos.recipes.evaluate``."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from llmagentos.corpus import read_silos
from llmagentos.files import write_durably
from llmagentos.recipes.display import Display
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.extras import check_model
from llmagentos.recipes.garbage import without_collection
from llmagentos.recipes.trained import check_adapter, read_asked
from llmagentos.report import quantities, terminal
from llmagentos.settings import (
    CorpusSettings,
    EvaluationSettings,
    LocalSettings,
    ModelSettings,
    RunSettings,
)
from llmagentos.settings.checks import require

DESCRIPTION = (
    "Loss, perplexity and token accuracy of an adapter on the held-out rows of every silo, with "
    "the split that it was trained on: model, corpus and seed are those of its run, where the "
    "adapter lies in the folder of one, unless --config names another file."
)

Metrics = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured, and on which text."""

    adapter: str | None = None
    """PEFT folder, as in runs/NAME/adapter; the base model alone unless given."""
    json: str | None = None
    """File that gets the numbers too."""
    rows: int | None = None
    """Held-out rows of each silo that are read; all unless given."""
    batch: int = 8
    """Rows in a forward pass; a run's ``evaluation.batch``."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision; a run's ``local.precision``."""
    seed: int = 0
    """Seed that draws the held-out rows."""
    threads: int | None = None
    """Threads of torch; a run's ``threads``, else the cores that this process may use."""
    model: ModelSettings = ModelSettings()
    """The base model."""
    corpus: CorpusSettings = CorpusSettings()
    """The text."""

    def __post_init__(self) -> None:
        require(self.rows is None or self.rows >= 1, "rows", self.rows, "needs at least 1")
        require(self.batch >= 1, "batch", self.batch, "needs at least 1")
        if self.json is not None:
            path = Path(self.json).absolute()
            writable = path.parent.is_dir() and os.access(path.parent, os.W_OK)
            remedy = "needs the name of a file in a folder that you may write to"
            require(bool(self.json) and writable and not path.is_dir(), "json", self.json, remedy)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: evaluate(sys.argv[1:] if words is None else words))


def evaluate(words: Sequence[str]) -> None:
    """Check what can be checked early, then load the model, measure, and print a table."""
    asked = read_asked(EvaluateSettings, "evaluate", DESCRIPTION, words)
    if asked.adapter is not None:
        check_adapter(asked.adapter)
    check_model(asked.model)
    examples = read_silos(asked.corpus, asked.seed)
    with Display() as display:
        # Importing torch takes seconds, which a wrong setting or corpus should not cost.
        with without_collection():
            from llmagentos.recipes.measuring import measured

        metrics = measured(_run_settings(asked), examples, asked.rows, display.track)
    terminal().print(metrics_table(asked.adapter or asked.model.source, metrics))
    if asked.json is not None:
        write_durably(Path(asked.json), _as_json(asked, metrics).encode())


def _run_settings(asked: EvaluateSettings) -> RunSettings:
    """A run that would start from the adapter."""
    return RunSettings(
        seed=asked.seed,
        threads=asked.threads,
        model=asked.model,
        corpus=asked.corpus,
        local=LocalSettings(precision=asked.precision),
        evaluation=EvaluationSettings(batch=asked.batch),
        init_adapter=asked.adapter,
    )


def _as_json(asked: EvaluateSettings, metrics: Metrics) -> str:
    subject = {"adapter": asked.adapter, "model": asked.model.source, "seed": asked.seed}
    return json.dumps({**subject, "silos": metrics}, indent=2) + "\n"


def metrics_table(subject: str, metrics: Metrics) -> Table:
    """A row a silo, and the plain mean over silos as a run's report has it."""
    title = Text(f"Held-out text: {quantities.label(subject, 72)}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("silo", overflow="fold")
    for heading in ("tokens", "loss", "perplexity", "accuracy"):
        table.add_column(heading, justify="right")
    for name, numbers in metrics.items():
        table.add_row(Text(quantities.label(name)), *_cells(numbers))
    table.add_section()
    table.add_row(Text("mean of silos"), *_cells(overall(metrics)), style="bold")
    return table


def overall(metrics: Metrics) -> dict[str, float]:
    """Loss and accuracy as plain means over silos; tokens are summed."""
    loss, accuracy = (
        sum(numbers[name] for numbers in metrics.values()) / len(metrics)
        for name in ("loss", "accuracy")
    )
    tokens = sum(numbers["tokens"] for numbers in metrics.values())
    return {"loss": loss, "accuracy": accuracy, "tokens": tokens}


def _cells(numbers: Mapping[str, float]) -> list[str]:
    return [
        quantities.count(numbers["tokens"]),
        quantities.decimal(numbers["loss"], 3),
        quantities.rounded(quantities.perplexity(numbers["loss"])),
        quantities.percent(numbers["accuracy"], digits=1),
    ]


if __name__ == "__main__":
    sys.exit(main())
