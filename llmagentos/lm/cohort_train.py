"""Local training of many agents at once: every step is one forward and backward pass for all."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmagentos import kernels
from llmagentos.lm.batches import collate, target_tokens
from llmagentos.lm.dropout import share_of
from llmagentos.lm.pull import Pull
from llmagentos.lm.schedule import Step
from llmagentos.lm.stacked import StackedAdapter
from llmagentos.lm.workbench import OPTIMIZERS, Workbench
from llmagentos.settings import LocalSettings

Course = tuple[Sequence[Step], LocalSettings]
"""What one agent trains in a round."""


class Training(NamedTuple):
    """A stack and the optimizer of its rows, which has a group for each."""

    stack: StackedAdapter
    optimizer: torch.optim.Optimizer


def train_cohort(
    bench: Workbench,
    training: Training,
    courses: Sequence[Course],
    numbers: Iterable[int],
    pull: Pull,
) -> list[list[float]]:
    """The losses of each agent's steps; a part of the rows of the stack is trained in place.

    What ``train`` does for one agent: every agent has its own loss, pull towards its anchor,
    clipping, learning rate and group of the optimizer. ``courses`` are ordered by their number of
    steps, the longest first, and agree in batch, accumulation and optimizer; ``numbers`` are those
    of the steps of the longest. The rows of ``pull`` are in the same order.
    """
    stack, optimizer = training
    losses = []
    for number in numbers:
        going = [(steps[number], local) for steps, local in courses if number < len(steps)]
        stack.gradient.zero_()
        losses.append(backward(bench, stack, [step for step, _ in going]))
        for row, (_, local) in enumerate(going):
            pulled = stack.gradient[row], stack.values[row], pull.anchor[row]
            kernels.proximal(*pulled, local.mu)
        clip_rows(stack.gradient[: len(going), stack.part], [local.clip for _, local in going])
        if pull.linear is not None:
            stack.gradient[: len(going)] += pull.linear[: len(going)]
        _take_step(optimizer, [step.lr for step, _ in going])
    told = [each.tolist() for each in losses]
    return [[at[row] for at in told[: len(steps)]] for row, (steps, _) in enumerate(courses)]


def backward(bench: Workbench, stack: StackedAdapter, steps: Sequence[Step]) -> Tensor:
    """The agents' losses, ``(n,)``; their gradients are added to the rows of the stack."""
    device = stack.values.device
    tokens = torch.tensor([sum(map(target_tokens, step.passes)) for step in steps], device=device)
    losses = torch.zeros(len(steps), device=device)
    for number, shares in enumerate(zip(*(step.passes for step in steps), strict=True)):
        drawing = zip(shares, steps, strict=True)
        bench.draws.expect([share_of(rows, step.seed, number, 0) for rows, step in drawing])
        batch = collate([row for share in shares for row in share], device)
        stack.expect(len(steps), batch.ids.numel())
        with bench.accelerator.autocast():
            nll = bench.score(batch)
        counts = torch.tensor([target_tokens(share) for share in shares], device=device)
        parts = torch.segment_reduce(nll, "sum", lengths=counts) / tokens
        stack.backward(parts.sum())
        losses += parts.detach()
    return losses


def clip_rows(gradient: Tensor, largest: Sequence[float]) -> None:
    """Scale each row of ``(n, d)`` down to a norm of at most ``largest``; 0 leaves it as it is."""
    norms = torch.linalg.vector_norm(gradient, dim=1)
    bounds = torch.tensor([bound or float("inf") for bound in largest], device=gradient.device)
    gradient *= (bounds / (norms + 1e-6)).clamp(max=1.0)[:, None]


def optimizer_of(stack: StackedAdapter, settings: Sequence[LocalSettings]) -> torch.optim.Optimizer:
    """A fresh optimizer with a group, and so a learning rate and a state, for each agent's part."""
    groups = []
    for value, gradient, local in zip(stack.values, stack.gradient, settings, strict=True):
        row = nn.Parameter(value[stack.part])
        row.grad = gradient[stack.part]
        groups.append({"params": [row], "lr": local.lr, "weight_decay": local.weight_decay})
    return OPTIMIZERS[settings[0].optimizer](groups)


def _take_step(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """One step of the first agents at their rates; those after them are done and stay."""
    for group, rate in zip(optimizer.param_groups, rates, strict=False):
        group["lr"] = rate
    for group in optimizer.param_groups[len(rates) :]:
        group["params"][0].grad = None
    optimizer.step()
