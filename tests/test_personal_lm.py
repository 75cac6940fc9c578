"""Own adapters in the trainers, on a real model."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from llmagentos.aggregation import joined
from llmagentos.engines import MemoryByRun, PersonalisingTrainer
from llmagentos.engines.personal import first_own, training_own, with_own
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import adapter_config
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import load_base
from llmagentos.recipes.personal_folders import Published, PublishingTrainer
from llmagentos.settings import ModelSettings, PersonalSettings
from tests.lm_world import SILOS, evaluate_task, fit_task, start_of, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

PERSONAL = {"ditto": PersonalSettings("ditto", mu=0.5), "dual": PersonalSettings("dual", steps=2)}
EVERY = pytest.mark.parametrize("personal", PERSONAL.values(), ids=PERSONAL)


def asking(task, personal):
    return replace(task, settings={**task.settings, "personal": asdict(personal)})


def other(layout):
    return np.random.default_rng(8).normal(0, 0.05, layout.size).astype(np.float32)


@EVERY
def test_own_adapters_side_by_side_end_where_they_end_one_by_one(personal):
    training = trainer(dropout=0.1)
    tasks = [
        training_own(
            asking(fit_task(training.layout, agent=agent, optimizer="sgd", lr=0.5), personal),
            other(training.layout),
        )
        for agent in SILOS
    ]
    (together,) = CohortTrainer(training, 4).fit(tasks)
    for task, update in zip(tasks, together, strict=True):
        alone = training.update(task).vectors["delta"]
        assert np.linalg.norm(alone - update.vectors["delta"]) < 1e-4 * np.linalg.norm(alone)


def test_training_starts_at_one_adapter_and_is_pulled_to_another():
    """One step of descent with and without the pull differs by ``lr mu (start - anchor)``."""
    training = trainer()
    plain = fit_task(
        training.layout, adapter=other(training.layout), steps=1, optimizer="sgd", lr=0.1, clip=0.0
    )
    anchor = start_of(training.layout)
    task = replace(plain, settings={**plain.settings, "mu": 2.0})
    task = replace(task, vectors={**task.vectors, "anchor": anchor})
    free, pulled = (training.update(each).vectors["delta"] for each in (plain, task))
    np.testing.assert_allclose(
        pulled - free, -0.1 * 2.0 * (other(training.layout) - anchor), atol=1e-7
    )


@EVERY
@pytest.mark.parametrize("side_by_side", [False, True])
def test_updates_are_those_of_agents_that_share_all(tmp_path, personal, side_by_side):
    single = trainer()
    training = CohortTrainer(single, 4) if side_by_side else single
    tasks = [fit_task(single.layout, agent=agent) for agent in SILOS]
    plain = [update for group in training.fit(tasks) for update in group]
    keeping = PersonalisingTrainer(training, tmp_path)
    asked = [asking(task, personal) for task in tasks]
    found = [update for group in keeping.fit(asked) for update in group]
    for ours, theirs in zip(found, plain, strict=True):
        assert ours.vectors["delta"].tobytes() == theirs.vectors["delta"].tobytes()
    own = [keeping.own(replace(task, round=2, receipt=1)) for task in asked]
    assert not any(np.array_equal(vector, start_of(single.layout)) for vector in own)
    assert not np.array_equal(*own)


def test_dual_computes_with_one_adapter_of_both_ranks():
    training, grown = trainer(), trainer(rank=8, alpha=32.0)
    task = asking(evaluate_task(training.layout), PERSONAL["dual"])
    own = other(training.layout)
    whole = joined(training.layout, [own, task.vectors["adapter"]])
    expected = grown.evaluate(replace(task, layout=grown.layout, vectors={"adapter": whole}))
    found = training.evaluate(with_own(task, own))
    assert found.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-5)
    apart = abs(found.metrics["loss"] - training.evaluate(task).metrics["loss"])
    assert apart > 1e-4


def test_a_first_dual_adapter_leaves_the_model_as_it_was_shared():
    training = trainer()
    task = asking(evaluate_task(training.layout), PERSONAL["dual"])
    shared, both = (training.evaluate(t) for t in (task, with_own(task, first_own(task))))
    assert both.metrics["loss"] == pytest.approx(shared.metrics["loss"], rel=1e-6)


@EVERY
def test_an_agent_elsewhere_finds_the_folders_of_both_adapters_after_a_round(tmp_path, personal):
    training = trainer()
    base = load_base(ModelSettings(source="tiny", device="cpu"), 0)
    config = adapter_config(training.bench.model, base)
    published = Published(config, "tiny", seed=0)
    remembering = MemoryByRun(training, tmp_path / "memory")
    agent = PublishingTrainer(remembering, tmp_path, published)
    list(agent.fit([asking(fit_task(training.layout), personal)]))
    task = asking(evaluate_task(training.layout), personal)
    agent.evaluate(replace(task, round=0))
    assert not (tmp_path / "adapters").exists()
    found = agent.evaluate(replace(task, receipt=1)).metrics
    (run,) = (tmp_path / "adapters").iterdir()
    assert {path.name for path in run.iterdir()} == {"adapter", "personal"}
    for name, loss in (("adapter", "loss"), ("personal", "personal_loss")):
        rank = adapter_settings(run / name).rank
        wide = trainer(rank=rank, alpha=4.0 * rank)
        vectors = {"adapter": adapter_vector(run / name, wide.layout)}
        again = wide.evaluate(replace(task, layout=wide.layout, vectors=vectors))
        assert again.metrics["loss"] == pytest.approx(found[loss], rel=1e-5)
    assert found["loss"] != found["personal_loss"]
