"""FedAvg with an adaptive optimizer at the server: ``fedavg_lora`` with ``server.strategy``."""

import sys

from llmagentos.recipes.command import Recipe
from llmagentos.recipes.tuning import main

RECIPE = Recipe(
    "fedopt_lora",
    "Federated LoRA tuning with an adaptive optimizer at the server "
    "(FedAdam and its kin, Reddi et al. 2021, arXiv:2003.00295).",
    {"server.strategy": "fedadam"},
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
