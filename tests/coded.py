"""A federation of three hundred values in which every codec has something to lose."""

from dataclasses import replace

import numpy as np

from llmagentos.adapter import Adapter
from llmagentos.engines import CodingTrainer, InProcessEngine
from llmagentos.federation import Federation, Plan
from llmagentos.journal import Journal
from llmagentos.messages import Enrolled, answer
from llmagentos.seeds import generator
from llmagentos.state import ServerState
from llmagentos.strategies import fedavg
from tests.leaving import left
from tests.quadratics import layout_of_size

SIZE = 300
AGENTS = ("east", "north", "south")
ROSTER = {name: Enrolled() for name in AGENTS}
CODECS = {
    "fp32": {"name": "fp32"},
    "bf16": {"name": "bf16"},
    "fp16": {"name": "fp16"},
    "int8": {"name": "int8"},
    "top_k": {"name": "top_k", "top_k": 0.1},
    "int8, no feedback": {"name": "int8", "error_feedback": False},
}
"""Settings of a codec by what they are called here."""


class Homing:
    """Each agent goes half of the way to a place of its own."""

    share = 0.5

    def fit(self, tasks):
        for task in tasks:
            yield [self.update(task)]

    def update(self, task):
        way = self.share * (home_of(task.agent) - task.vectors["adapter"])
        return answer(task, vectors={"delta": way.astype(np.float32)})

    def evaluate(self, task):
        return answer(task, metrics={"loss": float(np.square(task.vectors["adapter"]).sum())})


class Resting(Homing):
    """Nobody moves."""

    share = 0.0


def home_of(agent):
    return generator("home", agent).standard_normal(SIZE).astype(np.float32)


def first_state():
    return ServerState(1, Adapter(layout_of_size(SIZE), np.full(SIZE, 5, np.float32)))


def federation(folder, codec, *, trainer=None, engine=InProcessEngine, rounds=3, **plan):
    """A federation with its journal and the agents' memories in ``folder``."""
    journal = left(Journal(folder))
    coding = CodingTrainer(trainer or Homing(), folder / "agents")
    made = Plan(
        run=journal.begin(layout_of_size(SIZE), {}, first_state),
        rounds=rounds,
        weighting="uniform",
        settings={"fit": {"codec": CODECS[codec]}, "evaluate": {}},
    )
    return Federation(fedavg(), engine(coding, ROSTER), journal, replace(made, **plan))
