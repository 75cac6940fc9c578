"""How the agents' LoRA factors become the next global adapter."""

from llmagentos.aggregation.aggregate import aggregated, check_aggregation
from llmagentos.aggregation.methods import METHODS, Method
from llmagentos.aggregation.product_error import product_error
from llmagentos.aggregation.residual import chapters, grown, in_one, joined, rank_of

__all__ = [
    "METHODS",
    "Method",
    "aggregated",
    "chapters",
    "check_aggregation",
    "grown",
    "in_one",
    "joined",
    "product_error",
    "rank_of",
]
