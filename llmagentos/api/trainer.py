"""What a client does with a task: ordinary local training of the shared copy of the model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer

from llmagentos import kernels
from llmagentos.api.batches import ROWS_A_BATCH, shapes_of
from llmagentos.api.bystander import Bystander
from llmagentos.api.clients import Client
from llmagentos.api.optimizers import Fresh
from llmagentos.api.proximal import pull_to_here
from llmagentos.api.weights import ModelWeights, training_mode
from llmagentos.errors import DivergedError, SettingError
from llmagentos.layout import Vector
from llmagentos.messages import Task, Update, answer
from llmagentos.seeds import seed_of

Loss = Callable[[Any, Any], Any]
"""``loss_fn(output, target)`` of a pair, ``loss_fn(output, batch)`` of a mapping."""

TOO_FEW_ROWS = "Expected more than 1 value per channel"
"""What torch says where one row has to be normalised by itself."""


class Stop(BaseException):
    """Ends a run with an error of the caller's code, in ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True)
class ClientTrainer:
    """Trains one model for every client in turn; a task finds nothing of the one before."""

    weights: ModelWeights
    loss_fn: Loss
    optimizer: Fresh
    clients: Mapping[str, Client]
    passed: Bystander

    def fit(self, tasks: Sequence[Task]) -> Iterator[list[Update]]:
        """The updates of the tasks, one at a time."""
        for task in tasks:
            yield [self.update(task)]

    def update(self, task: Task) -> Update:
        """The change of the model, ``delta`` ``(d,)``, after the client's steps of a round.

        ``task.settings`` holds ``mu``, ``weighting`` and ``may_fail``; unless it may, ``Stop``
        carries what went wrong past all that would make it a mere failure of this client.
        """
        client = self.clients[task.agent]
        self.weights.load(task.vectors["adapter"])
        before = self.weights.vector()
        try:
            with (
                _drawn_from(task, self.weights.device),
                training_mode(self.weights.model, training=True),
            ):
                loss = self._train(task, client)
            delta = self.weights.vector() - before
            _check_finite(delta, loss)
        except Exception as error:
            if task.settings["may_fail"]:
                raise
            error.add_note(f"This was raised for client {task.agent!r} in round {task.round}.")
            raise Stop(error) from error
        metrics = {"train_loss": loss}
        weight = 1.0 if task.settings["weighting"] == "uniform" else client.weight
        return answer(task, vectors={"delta": delta}, weight=weight, metrics=metrics)

    def evaluate(self, task: Task) -> Update:
        """The loss of the dispatched weights on the client's own batches."""
        self.weights.load(task.vectors["adapter"])
        return answer(task, metrics={"loss": self.mean_loss(self.clients[task.agent].batches)})

    def _train(self, task: Task, client: Client) -> float:
        """The mean loss of the steps, each before it was taken."""
        parameters = self.weights.parameters
        optimizer = self.optimizer(parameters)
        pull = pull_to_here(list(parameters.values()), task.settings["mu"])
        batches = client.batches.of_round(task, client.steps)
        steps = (_step(optimizer, partial(self.loss, batch), pull) for batch in batches)
        with self.passed.untouched():
            losses = list(islice(steps, 1))
        losses += steps
        self.weights.model.zero_grad()
        return _mean(losses)

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Any]) -> float:
        """The plain mean of the model's losses over batches, in evaluation mode."""
        with training_mode(self.weights.model, training=False):
            return _mean([self.loss(batch).detach() for batch in batches])

    def loss(self, batch: Any) -> Tensor:
        """The loss of a batch, one number; ``SettingError`` if batch or loss is of no use."""
        batch = send_to_device(batch, self.weights.device)
        try:
            return self._loss(batch)
        except Exception as error:
            error.add_note(f"The batch was {shapes_of(batch)}.")
            raise

    def _loss(self, batch: Any) -> Tensor:
        if isinstance(batch, Mapping):
            output, target = self._output(**_accepted(self.weights.model, batch)), batch
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            output, target = self._output(batch[0]), batch[1]
        else:
            raise SettingError(
                f"data gives a batch of type {type(batch).__name__}; it needs to be a pair "
                "(input, target) or a mapping of the model's arguments: set a collate_fn"
            )
        loss = self.loss_fn(output, target)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return loss
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise SettingError(f"loss_fn returned {found}; it needs to return a tensor of one value")

    def _output(self, *inputs: Any, **fields: Any) -> Any:
        """What the model makes of a batch; ``SettingError`` if its norm needs more rows."""
        try:
            return self.weights.model(*inputs, **fields)
        except ValueError as error:
            if TOO_FEW_ROWS not in str(error):
                raise
            raise SettingError(
                f"batch_size leaves one row, too few for a norm of the model ({error}): give one "
                f"(it is {ROWS_A_BATCH} unless given) that leaves none over, or steps=, which "
                "takes whole batches; for a DataLoader, drop_last=True"
            ) from error


def _step(optimizer: Optimizer, loss_of: Callable[[], Tensor], pull: Callable[[], None]) -> Tensor:
    """The loss before one optimizer step; ``pull`` changes the gradients of every pass."""
    losses = []

    @torch.enable_grad()  # some optimizers call it where gradients are off
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        if not loss.requires_grad:
            raise SettingError(
                "loss_fn returned a loss that depends on no trainable parameter; compute it from "
                "the model's output without detach or item"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        pull()
        losses.append(loss.detach())
        return loss

    optimizer.step(closure)
    if not losses:
        kind = type(optimizer).__name__
        raise SettingError(f"optimizer: {kind}.step does not call its closure; use another")
    return losses[0]


def _check_finite(delta: Vector, loss: float) -> None:
    """Raise ``DivergedError`` unless the client's change ``(d,)`` is finite."""
    if kernels.inspect(delta).nonfinite:
        raise DivergedError(
            f"training has left the finite numbers, its loss is {loss:g}: look for NaN in the "
            "client's data, or lower the optimizer's learning rate"
        )


def _mean(losses: list[Tensor]) -> float:
    if not losses:
        raise SettingError("data is empty: it gave no batch")
    return torch.stack([loss.float().reshape(()) for loss in losses]).mean().item()


def _accepted(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that ``forward`` has arguments for; all where it takes any."""
    arguments = signature(model.forward).parameters
    if any(argument.kind is Parameter.VAR_KEYWORD for argument in arguments.values()):
        return dict(batch)
    chosen = {name: value for name, value in batch.items() if name in arguments}
    if not chosen:
        raise SettingError(
            f"data has the fields {', '.join(batch)}, the model's forward takes "
            f"{', '.join(arguments)}: rename the fields, or give pairs (input, target)"
        )
    return chosen


@contextmanager
def _drawn_from(task: Task, device: torch.device) -> Iterator[None]:
    """What torch draws inside, such as dropout, follows from the task; the caller's draws go on."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(task.seed, "client", task.agent, task.round))
        yield
