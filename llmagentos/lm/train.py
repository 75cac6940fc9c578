"""Local training: a plain accelerate loop over one flat parameter."""

from collections.abc import Iterable

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from llmagentos import kernels
from llmagentos.lm.batches import collate, target_tokens
from llmagentos.lm.dropout import share_of
from llmagentos.lm.pull import Pull
from llmagentos.lm.schedule import Step
from llmagentos.lm.workbench import Workbench
from llmagentos.settings import LocalSettings


def train(
    bench: Workbench,
    optimizer: AcceleratedOptimizer,
    steps: Iterable[Step],
    pull: Pull,
    settings: LocalSettings,
) -> list[float]:
    """The loss of each step; the optimizer's part of the model's adapter is trained in place.

    A step's loss is the sum over the target tokens of all its rows, divided by their number, so
    passes and processes change nothing but the rounding. Gradients are pulled as ``pull`` says,
    with the ``mu`` of the settings.
    """
    flat, accelerator = bench.flat, bench.accelerator
    (trained,) = optimizer.param_groups[0]["params"]
    losses = []
    for step in steps:
        flat.gradient.zero_()
        losses.append(backward(bench, step))
        if accelerator.num_processes > 1:
            flat.gradient.copy_(accelerator.reduce(flat.gradient, "sum"))
        accelerator.unscale_gradients(optimizer)
        kernels.proximal(flat.gradient, flat.vector.detach(), pull.anchor, settings.mu)
        if settings.clip:
            clip_grad_norm_(trained, settings.clip)
        if pull.linear is not None:
            flat.gradient.add_(pull.linear)
        optimizer.param_groups[0]["lr"] = step.lr
        optimizer.step()
    whole: list[float] = accelerator.reduce(torch.stack(losses), "sum").tolist()
    return whole


def backward(bench: Workbench, step: Step) -> Tensor:
    """This process's part of a step's loss, ``()``; its gradient is added to the flat one."""
    tokens = sum(map(target_tokens, step.passes))
    loss = torch.zeros((), device=bench.flat.vector.device)
    process = bench.accelerator.process_index
    for number, rows in enumerate(map(bench.share, step.passes)):
        if rows:
            bench.draws.expect([share_of(rows, step.seed, number, process)])
            with bench.accelerator.autocast():
                nll = bench.score(collate(rows, loss.device)).sum()
            bench.accelerator.backward(nll / tokens)
            loss += nll.detach() / tokens
    return loss
