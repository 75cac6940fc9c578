"""A prompt answered without and with an adapter: ``python -m llmagentos.recipes.generate``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from llmagentos.errors import SettingError
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.garbage import without_collection
from llmagentos.recipes.trained import check_adapter, read_asked
from llmagentos.report import terminal
from llmagentos.report.quantities import printable
from llmagentos.settings import CorpusSettings, ModelSettings, RunSettings
from llmagentos.settings.checks import require

DESCRIPTION = (
    "Answer a prompt by the base model and with an adapter on it, in the form of the rows that it "
    "was trained on: model and template are those of ../settings.yaml beside the adapter, where a "
    "run left it, unless --config names another file."
)


@dataclass(frozen=True)
class GenerateSettings:
    """What is asked, and of whom."""

    adapter: str = ""
    """PEFT folder, as in runs/NAME/adapter."""
    prompt: str = ""
    """What to answer."""
    max_tokens: int = 64
    """Longest answer in tokens."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """How the prompt is wrapped; a run's ``corpus.template``."""
    seed: int = 0
    """Seed that drew the weights of ``tiny``; no other base depends on it."""
    model: ModelSettings = ModelSettings()
    """The base model."""

    def __post_init__(self) -> None:
        check_adapter(self.adapter)
        if not self.prompt:
            raise SettingError("prompt is not set: write what to answer, in quotes")
        text = not any("\ud800" <= letter <= "\udfff" for letter in self.prompt)
        require(text, "prompt", self.prompt, "holds bytes that are not UTF-8; write it in UTF-8")
        require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "needs at least 1")


def main(words: Sequence[str] | None = None) -> int:
    """Answer; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: generate(sys.argv[1:] if words is None else words))


def generate(words: Sequence[str]) -> None:
    """Check the words, then load the model and print both answers."""
    asked = read_asked(GenerateSettings, "generate", DESCRIPTION, words)
    # Importing torch takes seconds, which a wrong setting should not cost.
    with without_collection():
        from llmagentos.recipes.answering import both_answers

    corpus = CorpusSettings(template=asked.template)
    settings = RunSettings(seed=asked.seed, model=asked.model, corpus=corpus)
    adapter = Path(asked.adapter)
    without, with_adapter = both_answers(settings, adapter, asked.prompt, asked.max_tokens)
    table = Table.grid(padding=(0, 2))
    for who, text in (("base model", without), ("with adapter", with_adapter)):
        table.add_row(Text(who, style="dim"), Text(printable(text, limit=100_000)))
    terminal().print(table)


if __name__ == "__main__":
    sys.exit(main())
