"""A federation over LoRA factors whose agents have adapters of their own, without a model."""

from dataclasses import asdict, replace

import numpy as np

from llmagentos.aggregation.residual import factors_of
from llmagentos.engines import PersonalisingTrainer
from llmagentos.federation import run, task_for
from llmagentos.messages import answer
from llmagentos.seeds import generator
from llmagentos.settings import LocalSettings, PersonalSettings
from tests.lora_world import LAYOUT, federation, settings_of

LOCAL = LocalSettings(steps=3, optimizer="sgd", lr=0.05, clip=0.0)
METHODS = {
    "ditto": {"method": "ditto", "mu": 0.5},
    "ditto, alone": {"method": "ditto", "mu": 0.0},
    "dual": {"method": "dual", "steps": 2},
}
"""Settings of personal methods by what they are called here."""


class Descending:
    """Plain descent on half the squared distance of the products from those that an agent wants.

    With a residual it is the sum of both products that comes closer.
    """

    layout = LAYOUT

    def __init__(self):
        self.seen = []

    def fit(self, tasks):
        for task in tasks:
            self.seen.append(task)
            yield [self.update(task)]

    def update(self, task):
        start, settings = task.vectors["adapter"], task.settings
        anchor = task.vectors.get("anchor", start)
        trained = task.layout.part(settings.get("trained", "both"))
        vector = start.copy()
        for _ in range(settings["steps"]):
            slope = gradient(replace(task, vectors={**task.vectors, "adapter": vector}))
            slope += np.float32(settings["mu"]) * (vector - anchor)
            vector[trained] -= np.float32(settings["lr"]) * slope[trained]
        return answer(task, vectors={"delta": vector - start})

    def evaluate(self, task):
        self.seen.append(task)
        return answer(task, metrics={"loss": loss(task), "accuracy": 0.5})


def wanted(agent):
    """The products that an agent wants, one a layer."""
    draw = generator("wanted", agent)
    return [0.5 * draw.standard_normal((out, in_)) for out, in_ in [(9, 8), (5, 8), (12, 9)]]


def missing(task):
    """What the products of a task's vectors are beyond those that its agent wants, by layer."""
    products = [pair.dense() for pair in factors_of(task.layout, task.vectors["adapter"])]
    if "residual" in task.vectors:
        residual = task.vectors["residual"]
        beside = factors_of(task.layout.fitting(residual), residual)
        products = [product + pair.dense() for product, pair in zip(products, beside, strict=True)]
    return [found - want for found, want in zip(products, wanted(task.agent), strict=True)]


def loss(task):
    return 0.5 * sum(float(np.square(gap).sum()) for gap in missing(task))


def gradient(task):
    """That of the loss in the task's adapter, ``(d,)`` float32."""
    vector = np.zeros(task.layout.size, np.float32)
    slopes, tensors = task.layout.split(vector), task.layout.split(task.vectors["adapter"])
    for pair, gap in zip(task.layout.pairs, missing(task), strict=True):
        slopes[pair.a][...] = pair.scale * tensors[pair.b].T @ gap
        slopes[pair.b][...] = pair.scale * gap @ tensors[pair.a].T
    return vector


def settings_for(personal, aggregation="naive"):
    return replace(settings_of(aggregation), personal=PersonalSettings(**personal))


def personal_federation(folder, personal, aggregation="naive", **options):
    """A federation with the agents' memories in ``folder``; ``personal`` are settings or {}."""
    settings = settings_for(personal, aggregation)
    trainer = options.pop("trainer", None) or Descending()
    parts = federation(folder, aggregation, trainer=trainer, settings=settings, **options)
    told = {"personal": asdict(settings.personal)} if personal else {}
    said = {"strategy": "fedavg", "aggregation": aggregation}
    fit = {**parts.plan.settings["fit"], **asdict(LOCAL), **said, **told}
    return replace(parts, plan=replace(parts.plan, settings={"fit": fit, "evaluate": told}))


def played(folder, personal, aggregation="naive", **options):
    """The reports of a federation, and its parts."""
    parts = personal_federation(folder, personal, aggregation, **options)
    return list(run(parts)), parts


def owns(parts, agents, folder):
    """The vectors of the agents' own adapters after the rounds that were played."""
    state = parts.journal.state()
    tasks = [task_for(agent, "evaluate", state, parts) for agent in agents]
    keeping = PersonalisingTrainer(Descending(), folder / "agents")
    return {task.agent: keeping.own(task) for task in tasks}
