"""The loss at the target tokens, without the logits of a whole batch in memory."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from llmagentos.lm.batches import Batch
from llmagentos.lm.lora import ADAPTER
from llmagentos.lm.target_loss import TargetLoss, keeps_no_logits

log = logging.getLogger(__name__)

Score = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Head, outputs ``(n, ...)`` and targets ``(n,)`` to ``(..., n)`` float32."""

LARGEST_CHUNK = 2**24
"""Logits that exist at a time (64 MiB in float32): 341 tokens of a vocabulary of 49 k. Halving it
costs 6 % of the head's time on a CPU."""


class TargetScore:
    """What a batch's target tokens get: negative log-likelihood, and hits of the likeliest token.

    Runs the body of the model, picks the positions that predict a target and applies the head to
    them, some at a time; under a frozen head see ``TargetLoss``, else the backward pass computes a
    chunk's logits again. A model whose forward pass is more than head after body (softcapped or
    scaled logits) goes through that instead, and so does one with dropout before its head, which
    is drawn for whole rows.
    """

    def __init__(self, model: PeftModel) -> None:
        self.causal = cast("Any", model.get_base_model())
        self.split = _is_head_after_body(self.causal) and not _drops(self.causal)
        vocabulary = self.causal.config.get_text_config().vocab_size
        self.chunk = max(1, LARGEST_CHUNK // vocabulary)
        if not self.split:
            log.warning(
                "%s does more than apply a head to targets: logits are computed at every position",
                type(self.causal).__name__,
            )

    def __call__(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of each target, ``(n,)`` float32; it can be differentiated."""
        head, outputs = self._head_and_outputs(batch)
        if outputs.requires_grad and keeps_no_logits(head):
            nll: Tensor = cast("Any", TargetLoss).apply(outputs, batch.targets, head, self.chunk)
            return nll
        return self._by_chunk(head, outputs, batch.targets, _nll)

    @torch.no_grad()
    def with_hits(self, batch: Batch) -> Tensor:
        """The same, and 1 where the target is the likeliest token: ``(2, n)`` float32."""
        head, outputs = self._head_and_outputs(batch)
        return self._by_chunk(head, outputs, batch.targets, _nll_and_hits)

    def _by_chunk(self, head: nn.Module, outputs: Tensor, targets: Tensor, score: Score) -> Tensor:
        pieces = list(zip(*(torch.split(t, self.chunk) for t in (outputs, targets)), strict=True))
        if len(pieces) > 1 and outputs.requires_grad:
            score = partial(checkpoint, score, use_reentrant=False)
        return torch.cat([score(head, *piece) for piece in pieces], dim=-1)

    def _head_and_outputs(self, batch: Batch) -> tuple[nn.Module, Tensor]:
        """What is still to be applied, and ``(n, ...)`` outputs at the predicting positions."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        if self.split:
            head = self.causal.get_output_embeddings()
            outputs = self.causal.get_decoder()(**inputs).last_hidden_state
        else:
            head, outputs = nn.Identity(), self.causal(**inputs).logits
        return head, outputs.flatten(0, 1)[batch.places]


def _nll(head: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(head(outputs).float(), targets, reduction="none")


def _nll_and_hits(head: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
    logits = head(outputs).float()
    nll = cross_entropy(logits, targets, reduction="none")
    return torch.stack([nll, (logits.argmax(dim=-1) == targets).float()])


@torch.no_grad()
def _is_head_after_body(causal: Any) -> bool:
    """Whether head(body(ids)) equals the model's own logits bit for bit, tried on eight tokens."""
    head, body = causal.get_output_embeddings(), causal.get_decoder()
    if head is None or body is causal:
        return False
    causal.eval()
    ids = torch.arange(8, device=causal.device)[None]
    logits = head(body(input_ids=ids, use_cache=False).last_hidden_state)
    return torch.equal(logits.float(), causal(input_ids=ids, use_cache=False).logits.float())


def _drops(causal: Any) -> bool:
    """Whether an adapter on the head has dropout before it."""
    head = causal.get_output_embeddings()
    return isinstance(head, LoraLayer) and isinstance(head.lora_dropout[ADAPTER], nn.Dropout)
