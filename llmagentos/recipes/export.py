"""Base and adapter merged into one ordinary model: ``python -m llmagentos.recipes.export``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmagentos.errors import SettingError
from llmagentos.recipes.display import Display
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.garbage import without_collection
from llmagentos.recipes.trained import check_adapter, read_asked
from llmagentos.settings import ModelSettings

DESCRIPTION = (
    "Merge an adapter into its base model: a folder that loads without this package and without "
    "PEFT. The base is that of ../settings.yaml beside the adapter, where a run left it, unless "
    "--config names another file."
)


@dataclass(frozen=True)
class ExportSettings:
    """What is merged, and where to."""

    adapter: str = ""
    """PEFT folder, as in runs/NAME/adapter."""
    out: str = ""
    """Folder of the merged model, which must not exist."""
    seed: int = 0
    """Seed that drew the weights of ``tiny``; no other base depends on it."""
    model: ModelSettings = ModelSettings()
    """The base model; ``model.dtype`` is the type that the merged weights are stored in."""

    def __post_init__(self) -> None:
        check_adapter(self.adapter)
        if not self.out:
            raise SettingError(
                "out is not set: name the folder of the merged model, as in --out model"
            )
        if Path(self.out).exists():
            raise SettingError(f"out={self.out!r} exists: remove it or name another folder")


def main(words: Sequence[str] | None = None) -> int:
    """Merge; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: export(sys.argv[1:] if words is None else words))


def export(words: Sequence[str]) -> None:
    """Check the words, then load, merge, save, and say how the model is loaded."""
    asked = read_asked(ExportSettings, "export", DESCRIPTION, words)
    # Importing torch takes seconds, which a wrong setting should not cost.
    with without_collection():
        from llmagentos.lm.export import merge

    with Display() as display:
        display.line(f"merging {asked.adapter} into {asked.model.source}")
        merge(asked.model, Path(asked.adapter), Path(asked.out), asked.seed)
        display.line("from transformers import AutoModelForCausalLM")
        display.line(f"model = AutoModelForCausalLM.from_pretrained({asked.out!r})")


if __name__ == "__main__":
    sys.exit(main())
