"""Local training, and what it leaves behind: nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmagentos.errors import SettingError
from llmagentos.lm.batches import collate
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.lm.workbench import Workbench
from llmagentos.messages import Task
from llmagentos.settings import LoraSettings
from tests.gpt2_world import adapted, gpt2_in, training_on
from tests.lm_world import CPU, SILOS, evaluate_task, fit_task, start_of, trainer


def delta(training: LoraTrainer, task: Task) -> np.ndarray:
    return training.update(task).vectors["delta"]


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_fit_lowers_the_loss_and_counts_examples_and_tokens() -> None:
    training = trainer()
    first = training.update(fit_task(training.layout, steps=1)).metrics
    update = training.update(fit_task(training.layout, steps=30))
    metrics = update.metrics
    assert metrics["train_loss"] < first["train_loss"]
    assert metrics["examples"] == update.weight == len(SILOS["north"].train)
    assert metrics["tokens"] == sum(int(row.learn.sum()) for row in SILOS["north"].train)
    assert update.vectors["delta"].shape == (training.layout.size,)
    assert update.vectors["delta"].dtype == np.float32


@pytest.mark.parametrize(
    ("weighting", "weight"), [("examples", 13), ("tokens", 92), ("uniform", 1)]
)
def test_the_weight_counts_what_it_is_asked_to_count(weighting: str, weight: int) -> None:
    training = trainer()
    task = fit_task(training.layout, steps=1)
    task = replace(task, settings={**task.settings, "weighting": weighting})
    assert training.update(task).weight == weight


def test_the_delta_is_a_copy_that_later_training_does_not_touch() -> None:
    training = trainer()
    first = delta(training, fit_task(training.layout))
    before = first.copy()
    training.update(fit_task(training.layout, agent="south"))
    assert np.array_equal(first, before)
    assert not np.shares_memory(first, training.bench.flat.vector.detach().numpy())


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_no_fit_leaves_a_trace_in_the_next_one(gradient_checkpointing: bool) -> None:
    tasks = {
        agent: {
            "agent": agent,
            "gradient_checkpointing": gradient_checkpointing and agent == "north",
        }
        for agent in ("north", "south")
    }

    def deltas(*order: str) -> dict[str, np.ndarray]:
        training = trainer(dropout=0.2)
        layout = training.layout
        return {agent: delta(training, fit_task(layout, **tasks[agent])) for agent in order}

    north_first, south_first = deltas("north", "south"), deltas("south", "north")
    assert np.array_equal(north_first["north"], south_first["north"])
    assert np.array_equal(north_first["south"], south_first["south"])


def test_a_fit_that_failed_leaves_no_trace_either() -> None:
    training, fresh = trainer(dropout=0.2), trainer(dropout=0.2)
    training.track = lambda steps, label: iter([*steps, None])
    with pytest.raises(AttributeError):
        training.update(fit_task(training.layout, gradient_checkpointing=True))
    training.track = lambda steps, label: steps
    task = fit_task(training.layout)
    assert np.array_equal(delta(training, task), delta(fresh, task))


def test_evaluation_changes_no_training() -> None:
    training, fresh = trainer(dropout=0.2), trainer(dropout=0.2)
    training.evaluate(evaluate_task(training.layout))
    task = fit_task(training.layout)
    assert np.array_equal(delta(training, task), delta(fresh, task))


def test_accumulated_passes_equal_one_large_pass() -> None:
    training = trainer()
    large = delta(training, fit_task(training.layout, batch=4, accumulation=1, optimizer="sgd"))
    small = delta(training, fit_task(training.layout, batch=1, accumulation=4, optimizer="sgd"))
    close(large, small)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning")
def test_dropout_before_an_adapted_head_is_drawn_alike_every_time(tmp_path, caplog) -> None:
    trained = {}
    for dropout in (0.0, 0.3):
        lora = LoraSettings(target_modules=["lm_head"], dropout=dropout)
        _, model = adapted(gpt2_in(tmp_path / str(dropout), tied=False), lora)
        training = training_on(model)
        task = fit_task(training.layout, optimizer="sgd")
        again = replace(task, settings={**task.settings, "gradient_checkpointing": True})
        trained[dropout] = delta(training, task)
        close(delta(training, again), trained[dropout])
        trained[dropout, "loss"] = training.evaluate(evaluate_task(training.layout)).metrics["loss"]
    assert not np.allclose(trained[0.0], trained[0.3], rtol=0.05)
    assert trained[0.3, "loss"] == pytest.approx(trained[0.0, "loss"], rel=1e-6)
    assert caplog.text.count("logits are computed at every position") == 1


def test_gradient_checkpointing_changes_memory_only() -> None:
    training = trainer()
    kept = delta(training, fit_task(training.layout, optimizer="sgd"))
    again = delta(training, fit_task(training.layout, optimizer="sgd", gradient_checkpointing=True))
    close(kept, again)
    assert kept.any()


def test_gradient_checkpointing_keeps_fewer_activations() -> None:
    training = trainer()
    kept = {True: 0, False: 0}

    for wanted in (True, False):

        def count(tensor: torch.Tensor, wanted: bool = wanted) -> torch.Tensor:
            kept[wanted] += tensor.numel()
            return tensor

        saving = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
        with saving, training.bench.training(gradient_checkpointing=wanted):
            training.bench.score(collate(SILOS["north"].train, CPU))
    assert kept[True] < kept[False] / 3


def test_one_step_of_sgd_is_the_gradient_of_the_mean_target_loss() -> None:
    training = trainer()
    task = fit_task(training.layout, steps=1, batch=13, lr=0.5, clip=0.0, optimizer="sgd")
    update = training.update(task)
    model = training.bench.model
    training.bench.flat.load(torch.tensor(task.vectors["adapter"]))
    training.bench.flat.gradient.zero_()
    nll, tokens = torch.zeros(()), 0
    for row in SILOS["north"].train:
        ids = torch.from_numpy(row.ids.astype(np.int64))
        labels = ids.masked_fill(torch.from_numpy(~row.learn), -100)
        count = int(row.learn.sum())
        nll = nll + model(input_ids=ids[None], labels=labels[None]).loss * count
        tokens += count
    (nll / tokens).backward()
    close(update.vectors["delta"], -0.5 * training.bench.flat.gradient.numpy())
    assert update.metrics["train_loss"] == pytest.approx(nll.item() / tokens, rel=1e-5)


def test_rounds_of_one_agent_with_plain_sgd_equal_central_training() -> None:
    training = trainer()
    layout = training.layout
    local = {"optimizer": "sgd", "clip": 0.0, "lr": 0.1, "schedule": "cosine", "warmup_steps": 2}
    adapter = start_of(layout)
    for round_ in (1, 2, 3):
        task = fit_task(layout, round_=round_, adapter=adapter, steps=2, **local)
        settings = {**task.settings, "horizon": 3}
        adapter = adapter + delta(training, replace(task, settings=settings))
    central = fit_task(layout, steps=6, **local)
    central = replace(central, settings={**central.settings, "horizon": 1})
    close(adapter - start_of(layout), delta(training, central))


def test_mu_pulls_the_adapter_towards_where_it_started() -> None:
    training = trainer()

    def distance(mu: float) -> float:
        task = fit_task(training.layout, steps=10, optimizer="sgd", lr=0.1, clip=0.0, mu=mu)
        return float(np.linalg.norm(delta(training, task)))

    assert distance(5.0) < 0.8 * distance(0.0)


def test_the_second_step_with_mu_is_the_papers() -> None:
    training = trainer()
    local = {"optimizer": "sgd", "lr": 0.1, "clip": 0.0, "mu": 2.0}
    start = start_of(training.layout)
    first = delta(training, fit_task(training.layout, steps=1, **local))
    both = delta(training, fit_task(training.layout, steps=2, **local))
    plain = fit_task(training.layout, steps=2, **{**local, "mu": 0.0})
    # The last of two rounds of one step each trains on the row of step two, from where one ended.
    one_step = {**plain.settings, "steps": 1}
    second = replace(plain, round=2, vectors={"adapter": start + first}, settings=one_step)
    close(both, first + delta(training, second) - 0.1 * 2.0 * first)


def test_clipping_bounds_the_step() -> None:
    training = trainer()
    local = {"optimizer": "sgd", "steps": 1, "lr": 1.0}
    free = np.linalg.norm(delta(training, fit_task(training.layout, clip=0.0, **local)))
    bound = np.linalg.norm(delta(training, fit_task(training.layout, clip=free / 2, **local)))
    assert bound == pytest.approx(free / 2, rel=1e-4)


def test_a_loss_that_is_not_finite_still_gives_a_delta() -> None:
    training = trainer()
    adapter = start_of(training.layout)
    adapter[0] = np.inf
    update = training.update(fit_task(training.layout, adapter=adapter, steps=1))
    assert not np.isfinite(update.vectors["delta"]).all()
    sound = delta(training, fit_task(training.layout))
    assert np.array_equal(sound, delta(trainer(), fit_task(training.layout)))


def test_a_read_only_adapter_is_loaded_without_a_warning() -> None:
    training = trainer()
    task = fit_task(training.layout, steps=1)
    before = task.vectors["adapter"].copy()
    task.vectors["adapter"].flags.writeable = False
    assert training.update(task).vectors["delta"].any()
    assert np.array_equal(task.vectors["adapter"], before)


def test_a_task_for_another_adapter_is_refused() -> None:
    training, wider = trainer(), trainer(rank=8)
    with pytest.raises(SettingError, match="give both the same lora settings"):
        training.update(fit_task(wider.layout))


def test_an_unknown_agent_is_named() -> None:
    training = trainer()
    with pytest.raises(SettingError, match="no silo for agent 'west' here; there are north, south"):
        training.update(fit_task(training.layout, agent="west"))


def test_a_moved_model_is_noticed_before_it_trains() -> None:
    training = trainer()
    training.bench.model.to(torch.float64).to(torch.float32)
    with pytest.raises(AssertionError, match="left the flat vector"):
        training.update(fit_task(training.layout))


def test_a_model_with_more_than_its_adapter_trainable_is_turned_away() -> None:
    model = trainer().bench.model
    model.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(AssertionError, match="only the adapter may be trainable"):
        Workbench(model, accelerator_for("no", CPU))


def test_the_steps_pass_through_the_tracker() -> None:
    training = trainer()
    seen = []
    training.track = lambda items, label: seen.append((label, len(items))) or items
    training.update(fit_task(training.layout))
    training.evaluate(evaluate_task(training.layout))
    assert seen == [("north: fit", 3), ("north: evaluate", 3)]
