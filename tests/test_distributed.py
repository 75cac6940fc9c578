"""Two processes as one agent; this file is also the program that the processes run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from llmagentos.lm import distributed
from llmagentos.lm.batches import collate, target_tokens
from llmagentos.lm.distributed import Leader, follow
from llmagentos.lm.flat import FlatAdapter
from llmagentos.lm.lora import parameters_by_name
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.schedule import row_order
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.messages import Task, Update
from tests.lm_world import CPU, evaluate_task, fit_task, trainer

LOCAL = {"steps": 3, "batch": 4, "accumulation": 2, "lr": 1e-2, "clip": 0.5}


def tasks(training: LoraTrainer) -> list[Task]:
    layout = training.layout
    return [fit_task(layout, **LOCAL), fit_task(layout, batch=1), evaluate_task(layout)]


def test_one_process_leads_nobody() -> None:
    training, alone = trainer(), trainer()
    task = fit_task(training.layout)
    with Leader(training) as leader:
        ((update,),) = leader.fit([task])
        metrics = leader.evaluate(evaluate_task(training.layout)).metrics
    assert np.array_equal(update.vectors["delta"], alone.update(task).vectors["delta"])
    assert metrics == alone.evaluate(evaluate_task(training.layout)).metrics


class Failing:
    """A trainer that runs out of memory."""

    def fit(self, tasks: list[Task]) -> Iterator[list[Update]]:
        for task in tasks:
            yield [self.update(task)]

    def update(self, task: Task) -> Update:
        raise RuntimeError("out of memory")


def test_the_agent_ends_where_other_processes_wait_for_one_that_failed(monkeypatch) -> None:
    task = fit_task(trainer().layout)
    with pytest.raises(RuntimeError, match="out of memory"), Leader(Failing()) as leader:
        next(leader.fit([task]))
    monkeypatch.setattr(distributed, "_open_channel", object)
    monkeypatch.setattr(distributed, "_share", lambda task, channel: task)
    with pytest.raises(SystemExit, match="one process of agent north failed: out of memory"):
        next(Leader(Failing()).fit([task]))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what two processes made of the tasks."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = Path(__file__)
    subprocess.run(
        [*command, str(here), str(folder)],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])},
    )
    return folder


@pytest.mark.parametrize("number", [0, 1])
def test_two_processes_train_as_one_does(two_processes: Path, number: int) -> None:
    training = trainer()
    alone = training.update(tasks(training)[number])
    together = np.load(two_processes / f"{number}.npz")
    np.testing.assert_allclose(together["delta"], alone.vectors["delta"], rtol=1e-3, atol=2e-5)
    assert together["train_loss"] == pytest.approx(alone.metrics["train_loss"], rel=1e-5)
    assert together["tokens"] == alone.metrics["tokens"]


def test_two_processes_evaluate_as_one_does(two_processes: Path) -> None:
    training = trainer()
    alone = training.evaluate(tasks(training)[2]).metrics
    together = np.load(two_processes / "2.npz")
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    assert together["accuracy"] == alone["accuracy"]


def test_one_reduce_of_the_flat_gradient_equals_ddp_bit_for_bit(two_processes: Path) -> None:
    ours = np.load(two_processes / "0.npz")["delta"]
    ddp = np.load(two_processes / "ddp.npy")
    assert np.abs(ours).max() > 0
    assert np.array_equal(ours, ddp)


def test_buckets_that_take_the_gradients_away_are_noticed(two_processes: Path) -> None:
    assert (two_processes / "noticed").read_text().endswith("and wrap or move neither afterwards")


def main(folder: Path) -> None:
    """What each of the processes does."""
    torch.set_num_threads(1)
    accelerator = accelerator_for("no", CPU)
    training = trainer(accelerator)
    if accelerator.is_main_process:
        with Leader(training) as leader:
            for number, task in enumerate(tasks(training)):
                fit = task.kind == "fit"
                update = next(leader.fit([task]))[0] if fit else leader.evaluate(task)
                np.savez(folder / str(number), **update.vectors, **update.metrics)
    else:
        follow(training)
    change = ddp_delta(accelerator.process_index)
    noticed = gradients_in_buckets()
    if accelerator.is_main_process:
        np.save(folder / "ddp", change)
        (folder / "noticed").write_text(noticed)
    accelerator.end_training()


class Loss(torch.nn.Module):
    """A model with its loss, for the wrapper to call."""

    def __init__(self, training: LoraTrainer) -> None:
        super().__init__()
        self.model = training.bench.model
        self.score = training.bench.score

    def forward(self, batch):
        return self.score(batch).sum()


def ddp_delta(rank: int) -> np.ndarray:
    """The first task by an ordinary DDP loop over per-tensor parameters, on the same shards."""
    training = trainer()
    task = tasks(training)[0]
    parameters = list(parameters_by_name(training.bench.model).values())
    start = torch.tensor(task.vectors["adapter"])
    offset = 0
    for parameter in parameters:
        piece = start[offset : offset + parameter.numel()]
        parameter.data = piece.view(parameter.shape).clone()
        parameter.grad = None
        offset += parameter.numel()
    model = DistributedDataParallel(Loss(training).train())
    optimizer = torch.optim.AdamW(parameters, lr=LOCAL["lr"], weight_decay=0.0, fused=True)
    rows = training.silos["north"].train
    order = row_order(task.seed, "north", len(rows), 0, 3 * 2 * 4).reshape(3, 2, 4)
    for passes in order:
        optimizer.zero_grad()
        tokens = target_tokens([rows[i] for i in passes.ravel()])
        for number, batch in enumerate(passes):
            share = collate([rows[i] for i in batch[rank::2]], CPU)
            model.require_backward_grad_sync = number == 1
            (2 * (model(share) / tokens)).backward()
        gradient = torch.cat([p.grad.flatten() for p in parameters])
        flat = torch.nn.Parameter(torch.zeros_like(gradient))
        flat.grad = gradient
        clip_grad_norm_(flat, LOCAL["clip"])
        for parameter, piece in zip(
            parameters, gradient.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad.copy_(piece.view(parameter.shape))
        optimizer.step()
    return (torch.cat([p.detach().flatten() for p in parameters]) - start).numpy()


def gradients_in_buckets() -> str:
    """What the check says about a wrapper that keeps gradients in its own buckets."""
    network = torch.nn.Linear(3, 2)
    flat = FlatAdapter(dict(network.named_parameters()))
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True)
    wrapped(torch.ones(1, 3)).sum().backward()
    try:
        flat.check(dict(network.named_parameters()))
    except AssertionError as error:
        return str(error)
    return "nothing was noticed"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
