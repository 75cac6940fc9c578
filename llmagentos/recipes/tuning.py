"""Federated LoRA tuning from the command line: the program behind three doors."""

import logging
import os
import sys
from collections.abc import Sequence

from llmagentos.corpus import read_silos
from llmagentos.recipes.command import Recipe, read_command
from llmagentos.recipes.display import Display
from llmagentos.recipes.exits import exit_code


def main(recipe: Recipe, words: Sequence[str] | None = None) -> int:
    """Run the recipe; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: tune(recipe, sys.argv[1:] if words is None else words))


def tune(recipe: Recipe, words: Sequence[str]) -> None:
    """Check what can be checked early, then load the model and do what was asked."""
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s", level=logging.WARNING if first else logging.ERROR)
    command = read_command(recipe, words)
    examples = read_silos(command.settings.corpus, command.settings.seed)
    with Display(quiet=not first) as display:
        # Importing torch takes seconds, which a wrong setting or corpus should not cost.
        from llmagentos.recipes.running import carry_out  # noqa: PLC0415

        carry_out(command, examples, display, first=first)
