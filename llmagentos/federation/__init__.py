"""Rounds of federated training, and the run that is made of them."""

from llmagentos.federation.asking import ask, task_for
from llmagentos.federation.parts import Federation, Plan
from llmagentos.federation.rounds import check_finite, measure, play_round, run

__all__ = [
    "Federation",
    "Plan",
    "ask",
    "check_finite",
    "measure",
    "play_round",
    "run",
    "task_for",
]
