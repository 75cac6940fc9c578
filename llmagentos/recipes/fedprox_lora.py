"""FedAvg with a pull of every agent to the global adapter: ``fedavg_lora`` with ``local.mu``."""

import sys

from llmagentos.recipes.command import Recipe
from llmagentos.recipes.tuning import main

RECIPE = Recipe(
    "fedprox_lora",
    "Federated LoRA tuning in which local training is pulled to the global adapter "
    "(FedProx, Li et al. 2020, arXiv:1812.06127).",
    {"local.mu": 0.01},
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
