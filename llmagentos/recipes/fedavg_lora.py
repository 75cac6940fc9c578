"""Federated averaging of LoRA adapters: ``python -m llmagentos.recipes.fedavg_lora``."""

import sys

from llmagentos.recipes.command import Recipe
from llmagentos.recipes.tuning import main

RECIPE = Recipe(
    "fedavg_lora",
    "Tune one language model over the private text of several agents by federated averaging "
    "(McMahan et al. 2017, arXiv:1602.05629) of LoRA adapters.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
