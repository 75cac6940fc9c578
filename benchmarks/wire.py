"""What the agents of `engines.py` do, in whichever process they live."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rows import PIECES

from llmagentos.adapter import Adapter
from llmagentos.agent import AgentJournal, Desk, Limits, Party
from llmagentos.agent.desk import largest_task
from llmagentos.engines import Trainer, with_memory
from llmagentos.engines.carrier import Answer
from llmagentos.federation import Plan
from llmagentos.identity import key_of, read_key
from llmagentos.layout import Layout
from llmagentos.messages import Enrolled, Task, Update, answer
from llmagentos.seeds import generator
from llmagentos.settings import (
    CorpusSettings,
    EvaluationSettings,
    LocalSettings,
    ModelSettings,
    RunSettings,
)
from llmagentos.state import ServerState

LIMITS = Limits(rounds=2**31, steps=2**31, epochs=float("inf"), examples=1, rows=1, held_out=1)
NAMED = "LLMAGENTOS_BENCHMARK"
"""Environment variable that tells a process its work."""
RESULT = "LLMAGENTOS_BENCHMARK_RESULT"
"""Environment variable that names the folder for what a server found."""
MODELS = {
    "tiny": (ModelSettings("tiny"), CorpusSettings("invented", max_tokens=96)),
    "smollm2": (ModelSettings(), CorpusSettings("icd10", max_tokens=80)),
}


class Hands(Protocol):
    """Agents of one process: their adapter, what they declare, and who answers for them."""

    layout: Layout
    roster: Mapping[str, Enrolled]
    base: str
    trainer: Trainer

    def first_state(self) -> ServerState:
        """What the rounds start from."""
        ...


@dataclass(frozen=True)
class Work:
    """Rounds of real training of a model; or, without one, of answers that cost nothing.

    Such an answer is as many random numbers as the adapter has ``values``, drawn anew each time:
    what repeats itself is carried for less.
    """

    rounds: int
    model: str = ""
    steps: int = 1
    values: int = 0
    agents: int = 4
    named: bool = True
    """Whether plain Flower has an array for each tensor, as PEFT's state dict has, or one."""

    @property
    def settings(self) -> RunSettings:
        """As a run would have them."""
        model, corpus = MODELS[self.model or "tiny"]
        local = LocalSettings(steps=self.steps, batch=4, precision="no")
        evaluation = EvaluationSettings(rows=0)
        return RunSettings(
            rounds=self.rounds,
            schedule_rounds=self.rounds,
            threads=1,
            trainer="single",
            model=model,
            corpus=corpus,
            local=local,
            evaluation=evaluation,
        )

    def plan(self, run: str) -> Plan:
        """The rounds, and what the agents are told."""
        settings = self.settings
        told = {**asdict(settings.local), "steps_by_agent": {}, "codec": asdict(settings.codec)}
        told |= {"horizon": self.rounds, "weighting": "examples", "strategy": "fedavg"}
        told |= {"aggregation": settings.aggregation}
        return Plan(run, self.rounds, settings.seed, settings={"fit": told})

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    def hands(self, *agents: str) -> Hands:
        """Who does the work of some agents; of all, unless any is named."""
        if not self.model:
            return Random(self)
        # Importing torch takes seconds and memory, which answers that cost nothing do without.
        from wire_trained import Trained  # noqa: PLC0415

        return Trained(self.settings, agents)


def told_work() -> Work:
    """What the environment says."""
    return Work(**json.loads(os.environ[NAMED]))


class Random:
    """Agents that answer at once, with numbers that nobody can compress."""

    base = "0" * 64

    def __init__(self, work: Work) -> None:
        size = work.values // PIECES
        shapes = tuple((size,) for _ in range(PIECES))
        self.layout = Layout(tuple(f"layer{k:03}" for k in range(PIECES)), shapes)
        self.roster = {f"agent{number:03}": Enrolled() for number in range(work.agents)}
        self.trainer: Trainer = self

    def first_state(self) -> ServerState:
        """Random, too."""
        first = generator(0, "first").standard_normal(self.layout.size, np.float32)
        return ServerState(1, Adapter(self.layout, first))

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """A delta for each task."""
        for task in tasks:
            draws = generator(task.seed, task.agent, task.round)
            delta = draws.standard_normal(task.layout.size, np.float32) * np.float32(1e-3)
            yield [answer(task, vectors={"delta": delta}, metrics={"train_loss": 0.0})]

    def evaluate(self, task: Task) -> Update:
        """Nothing."""
        return answer(task, metrics={"loss": 0.0, "accuracy": 0.0, "tokens": 1.0})


@dataclass(frozen=True)
class Made:
    """Makes an agent's answer in the agent's own process, as ``Resident`` does."""

    work: Work
    folder: Path
    coordinator: str

    def __call__(self, agent: str) -> Answer:
        """The agent's desk."""
        hands, home = self.work.hands(agent), self.home(agent)
        own, coordinator = read_key(home / "agent.key"), key_of(self.coordinator)
        largest = largest_task(hands.layout, 1)
        party = Party(agent, own, coordinator, hands.base, hands.layout, largest)
        trainer = with_memory(hands.trainer, self.folder / "memory")
        examples = int(hands.roster[agent].examples)
        journal = AgentJournal(home / "journal")
        return Desk(party, LIMITS, journal, trainer, examples).answer

    def home(self, agent: str) -> Path:
        """Where an agent has its key and journal."""
        return self.folder / "homes" / agent
