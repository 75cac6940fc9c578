"""Local training under the corrections of SCAFFOLD and FedDyn, one by one and side by side."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmagentos.engines import CorrectingTrainer
from llmagentos.layout import Vector
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.messages import Task, Update
from llmagentos.rates import step_weight
from tests.lm_world import fit_task, trainer
from tests.test_cohort import both, distance, one_by_one, tasks

SGD = {"optimizer": "sgd", "lr": 0.1}


def bent(task: Task, seed: int = 1) -> Task:
    """The task with a linear term as long as a usual gradient."""
    drawn = np.random.default_rng(seed).normal(0, 0.05, task.layout.size)
    return replace(task, vectors={**task.vectors, "linear": drawn.astype(np.float32)})


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_linear_term_is_added_whole_to_the_clipped_gradient(clip: float) -> None:
    training = trainer()
    plain = fit_task(training.layout, steps=1, clip=clip, **SGD)
    task = bent(plain)
    gap = training.update(task).vectors["delta"] - training.update(plain).vectors["delta"]
    np.testing.assert_allclose(gap, -0.1 * task.vectors["linear"], atol=1e-7)


def test_a_linear_term_of_zero_changes_no_bit() -> None:
    training = trainer()
    plain = fit_task(training.layout)
    zero = np.zeros(training.layout.size, np.float32)
    task = replace(plain, vectors={**plain.vectors, "linear": zero})
    deltas = [training.update(each).vectors["delta"].tobytes() for each in (plain, task)]
    assert deltas[0] == deltas[1]


@pytest.mark.parametrize("local", [SGD, {**SGD, "clip": 0.02}, {"optimizer": "adamw", "mu": 0.5}])
def test_corrected_agents_side_by_side_end_where_they_end_one_by_one(local: dict[str, Any]) -> None:
    training = one_by_one()
    special = {"steps": 2}, {"steps": 5}, {"steps": 3}
    plain = tasks(training, *special, **local)
    corrected = [bent(task, seed) for seed, task in enumerate(plain)]
    for (alone, together), (without, _) in zip(
        both(corrected, training), both(plain, training), strict=True
    ):
        assert distance(alone, together) < 1e-3
        assert distance(alone, without) > 0.1
        assert together.metrics["step_weight"] == alone.metrics["step_weight"]


def test_steps_count_by_their_rates_and_by_what_the_pull_leaves_of_them() -> None:
    assert step_weight([0.1] * 7, 0.1, mu=0.0) == 7
    assert step_weight([0.1, 0.05], 0.1, mu=0.0) == 1.5
    closed = (1 - (1 - 0.1 * 2) ** 5) / (0.1 * 2)
    assert step_weight([0.1] * 5, 0.1, mu=2.0) == pytest.approx(closed)


@pytest.mark.parametrize(
    ("local", "steps"), [({}, 3), ({"schedule": "linear"}, 33 / 12), ({"warmup_steps": 3}, 2)]
)
def test_an_update_says_how_many_steps_it_counts_for(local: dict[str, Any], steps: float) -> None:
    training = trainer()
    update = training.update(fit_task(training.layout, **SGD, **local))
    assert update.metrics["step_weight"] == pytest.approx(steps)


def scaffold_task(training: Any, round_: int, receipt: int | None, control: Vector) -> Task:
    task = fit_task(training.layout, round_=round_, clip=0.0, **SGD)
    settings = {**task.settings, "correction": "scaffold", "beside": ["control"]}
    vectors = {**task.vectors, "control": control}
    return replace(task, receipt=receipt, vectors=vectors, settings=settings)


def fitted(trainer_: CorrectingTrainer, task: Task) -> Update:
    ((update,),) = trainer_.fit([task])
    return update


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_control_is_the_mean_gradient_of_the_round(tmp_path: Any, side_by_side: bool) -> None:
    """Without a clip c_i is (x - y) / (K lr); alone, c equals c_i and nothing is corrected."""
    training = trainer()
    inner = CohortTrainer(training, 4) if side_by_side else training
    correcting = CorrectingTrainer(inner, tmp_path)
    zero = np.zeros(training.layout.size, np.float32)
    first = fitted(correcting, scaffold_task(training, 1, None, zero))
    control = first.vectors["control"]
    np.testing.assert_allclose(control, first.vectors["delta"] / -0.3, rtol=1e-6)
    second = scaffold_task(training, 2, 1, control)
    plain = fit_task(training.layout, round_=2, clip=0.0, **SGD)
    assert np.array_equal(
        fitted(correcting, second).vectors["delta"], training.update(plain).vectors["delta"]
    )
    forgotten = scaffold_task(training, 2, None, control)
    gap = fitted(correcting, forgotten).vectors["delta"] - training.update(plain).vectors["delta"]
    assert np.abs(gap).max() > 0.1 * np.abs(control).max() * 0.3
