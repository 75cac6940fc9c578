"""Dropout that an agent's own seed draws, whoever trains beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn

from llmagentos.corpus import Row
from llmagentos.lm.lora import ADAPTER, lora_layers
from llmagentos.seeds import seed_of


@dataclass(frozen=True)
class Share:
    """What one agent puts into a batch: rows, the tokens of the longest, and a seed of its own."""

    rows: int
    tokens: int
    seed: int


class Draws:
    """What the dropout layers of a model draw for: the agents' shares of the next batch."""

    def __init__(self, model: PeftModel) -> None:
        self.shares: Sequence[Share] = ()
        for name, layer in lora_layers(model).items():
            ordinary = layer.lora_dropout[ADAPTER]
            if isinstance(ordinary, nn.Dropout):
                layer.lora_dropout[ADAPTER] = SeededDropout(name, ordinary.p, self)

    def expect(self, shares: Sequence[Share]) -> None:
        """The next batch has the rows of these shares, one after the other."""
        self.shares = shares


class SeededDropout(nn.Module):
    """Dropout before a pair of factors, in training only.

    What is drawn follows from the layer's name and a share's seed: neither what else is in the
    batch and how far it is padded, nor how often activations are computed, changes it.
    """

    def __init__(self, name: str, p: float, draws: Draws) -> None:
        super().__init__()
        self.name, self.p, self.draws = name, p, draws

    def forward(self, x: Tensor) -> Tensor:
        """Values of ``(..., in)``, zero with probability ``p``, else divided by ``1 - p``."""
        if not self.training:
            return x
        shares = self.draws.shares
        kept = torch.zeros_like(x).view(sum(share.rows for share in shares), -1, x.shape[-1])
        for share, part in zip(shares, torch.split(kept, [s.rows for s in shares]), strict=True):
            drawn = self._drawn(share, x.shape[-1], x.device)
            part[:, : share.tokens] = drawn / (1 - self.p)
        return x * kept.view_as(x)

    def _drawn(self, share: Share, width: int, device: torch.device) -> Tensor:
        """1 for what stays, 0 for what goes: ``(rows, tokens, width)`` float32."""
        generator = torch.Generator(device).manual_seed(seed_of(share.seed, self.name))
        ones = torch.empty(share.rows, share.tokens, width, device=device)
        return ones.bernoulli_(1 - self.p, generator=generator)


def share_of(rows: Sequence[Row], *purpose: int) -> Share:
    """The share of some rows of an agent, drawn for a purpose."""
    return Share(len(rows), max(len(row.ids) for row in rows), seed_of(*purpose))
