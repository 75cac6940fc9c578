"""A federation over LoRA factors without a model: agents that move to a place of their own."""

from dataclasses import replace

import numpy as np

from llmagentos.adapter import Adapter, initial_vector
from llmagentos.aggregation import aggregated
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.federation import Federation, Plan, run
from llmagentos.journal import Journal
from llmagentos.layout import Layout, LoraPair
from llmagentos.messages import Enrolled, answer
from llmagentos.seeds import generator
from llmagentos.settings import CodecSettings, LoraSettings, RunSettings
from llmagentos.state import ServerState
from llmagentos.strategies import strategy_of
from llmagentos.tasks import decode_task, encode_task
from tests.leaving import left


def layout_of(shapes, rank=3, scale=2.0):
    """Pairs for layers of ``(out, in)``, with one scale."""
    tensors, pairs = {}, []
    for number, (out, in_) in enumerate(shapes):
        a, b = f"layer{number}.lora_A.weight", f"layer{number}.lora_B.weight"
        tensors |= {a: (rank, in_), b: (out, rank)}
        pairs.append(LoraPair(a, b, rank, rank * scale, scale))
    return Layout.order(tensors, tuple(pairs))


LAYOUT = layout_of([(9, 8), (5, 8), (12, 9)])
REST = {"head.weight": (4, 6), "norm.bias": (7,)}
WITH_REST = Layout.order(
    {**dict(zip(LAYOUT.names, LAYOUT.shapes, strict=True)), **REST}, LAYOUT.pairs
)
"""The same pairs, a module that is trained whole and a bias."""
AGENTS = ("east", "north", "south")
ROSTER = {name: Enrolled() for name in AGENTS}


class Homing:
    """Each agent goes half of the way to a place of its own, where it may train."""

    def __init__(self):
        self.seen = []

    def fit(self, tasks):
        for task in tasks:
            self.seen.append(task)
            yield [self.update(task)]

    def update(self, task):
        trained = task.layout.part(task.settings.get("trained", "both"))
        way = np.zeros(task.layout.size, np.float32)
        home = generator("home", task.agent).standard_normal(task.layout.size)
        way[trained] = (0.5 * (home - task.vectors["adapter"]))[trained]
        return answer(task, vectors={"delta": way})

    def evaluate(self, task):
        self.seen.append(task)
        return answer(task, metrics={"loss": float(np.square(task.vectors["adapter"]).sum())})


class Listening(InProcessEngine):
    """Remembers every byte that came from an agent, and every task as a file brings it there."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.sent, self.tasks = [], []

    def send(self, task):
        self.tasks.append(decode_task(encode_task(task)))
        super().send(self.tasks[-1])

    def poll(self, timeout_s=None):
        replies = super().poll(timeout_s)
        self.sent += replies
        return replies


def first_state(layout=LAYOUT):
    """Pairs as they are drawn, and where there is more, ones in the place of the base's values."""
    vector = initial_vector(layout, 0)
    vector[layout.factors.size :] = 1
    return ServerState(1, Adapter(layout, vector))


def settings_of(method, *, codec=None, ranks=None, modules=None, **server):
    made = RunSettings(
        aggregation=method,
        codec=CodecSettings(**(codec or {})),
        lora=LoraSettings(rank=3, ranks=ranks or {}, modules=modules or {}),
    )
    return replace(made, server=replace(made.server, **server))


def federation(folder, method, *, trainer=None, settings=None, rounds=3):
    """A federation with its journal and the agents' memories in ``folder``."""
    journal = left(Journal(folder))
    settings = settings or settings_of(method)
    layout = WITH_REST if settings.lora.whole else LAYOUT
    remembering = with_memory(trainer or Homing(), folder / "agents")
    told = {"codec": vars(settings.codec)}
    plan = Plan(
        run=journal.begin(layout, {}, lambda: first_state(layout)),
        rounds=rounds,
        weighting="uniform",
        settings={"fit": told, "evaluate": {}},
    )
    strategy = aggregated(strategy_of(settings.server), settings)
    return Federation(strategy, Listening(remembering, ROSTER), journal, plan)


def played(folder, method, **options):
    """The reports of a federation, and its parts."""
    parts = federation(folder, method, **options)
    return list(run(parts)), parts
