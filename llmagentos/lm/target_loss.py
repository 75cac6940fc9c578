"""The loss under a frozen head, whose logits are never kept."""

from typing import Any

import torch
from torch import Tensor, nn


class TargetLoss(torch.autograd.Function):
    """Negative log-likelihood of each target, ``(n,)`` float32, of outputs ``(n, h)``.

    The logits of a chunk live once: as soon as they give the loss they become its derivative,
    softmax minus one at the target, and that the gradient of the outputs. So ``(n, h)`` is kept
    for the backward pass in place of ``(n, vocabulary)``, and no logit is computed again.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, head: nn.Linear, chunk: int) -> Tensor:
        """Loss and derivative, ``chunk`` targets at a time."""
        nll = outputs.new_empty(len(targets), dtype=torch.float32)
        derivative = torch.empty_like(outputs)
        pieces = (torch.split(each, chunk) for each in (outputs, targets, nll, derivative))
        for states, answers, lost, slope in zip(*pieces, strict=True):
            _score(head, states, answers, lost, slope)
        ctx.save_for_backward(derivative)
        return nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the outputs, ``(n, h)``, from that of the losses."""
        (derivative,) = ctx.saved_tensors
        return derivative * gradients[0][:, None].to(derivative.dtype), None, None, None


def _score(head: nn.Linear, states: Tensor, answers: Tensor, lost: Tensor, slope: Tensor) -> None:
    """Write the loss ``(n,)`` and its derivative ``(n, h)``; twice the logits live at most."""
    scores = torch.log_softmax(head(states).float(), dim=-1)
    places = torch.arange(len(answers), device=answers.device), answers
    lost.copy_(-scores[places])
    scores.exp_()[places] -= 1
    slope.copy_(scores.to(head.weight.dtype) @ head.weight)


def keeps_no_logits(head: nn.Module) -> bool:
    """Whether ``TargetLoss`` applies: the head is a linear layer that does not learn."""
    return type(head) is nn.Linear and not any(p.requires_grad for p in head.parameters())
