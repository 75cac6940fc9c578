"""Mixed precision, and the loss scale that half precision needs."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from llmagentos.errors import SettingError
from llmagentos.lm.precision import accelerator_for, resolve_precision
from tests.lm_world import CPU, fit_task, trainer


@pytest.fixture
def precision() -> Iterator[Callable[[str], Accelerator]]:
    """Makes accelerators of any precision, each in place of the one before."""

    def make(name: str) -> Accelerator:
        AcceleratorState._reset_state()
        return Accelerator(cpu=True, mixed_precision=name)

    yield make
    AcceleratorState._reset_state()


def with_loss_scale(accelerator: Accelerator, scale: float) -> Accelerator:
    """What accelerate sets up for fp16 on a GPU, on a CPU."""
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return accelerator


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_mixed_precision_trains_as_full_precision_does(precision, name: str) -> None:
    local = {"optimizer": "sgd", "lr": 0.1, "clip": 0.1, "mu": 1.0}
    full = trainer(precision("no"))
    expected = full.update(fit_task(full.layout, **local))
    accelerator = precision(name)
    mixed = trainer(with_loss_scale(accelerator, 2.0**12) if name == "fp16" else accelerator)
    update = mixed.update(fit_task(mixed.layout, precision=name, **local))
    assert update.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], rel=1e-2)
    ours, theirs = update.vectors["delta"], expected.vectors["delta"]
    assert 0 < np.linalg.norm(ours - theirs) < 0.03 * np.linalg.norm(theirs)


def test_a_step_that_overflows_is_skipped_and_the_scale_starts_afresh(precision) -> None:
    training = trainer(with_loss_scale(precision("fp16"), 2.0**30))
    task = fit_task(training.layout, steps=1)
    for _ in range(2):
        assert not training.update(task).vectors["delta"].any()
        assert training.bench.accelerator.scaler.get_scale() == 2.0**29


def test_another_precision_than_the_agent_was_started_with_is_refused() -> None:
    training = trainer()
    with pytest.raises(SettingError, match="this agent was started with no"):
        training.update(fit_task(training.layout, precision="bf16"))


def test_auto_precision_on_a_cpu_is_none() -> None:
    assert resolve_precision("auto", CPU) == "no"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(SettingError, match=r"local\.precision='fp16': needs a GPU"):
        accelerator_for("fp16", CPU)
