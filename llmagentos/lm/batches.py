"""Rows of tokens as the tensors of one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmagentos.corpus import Row


@dataclass(frozen=True)
class Batch:
    """``b`` rows of at most ``t`` tokens, padded on the right, with ``n`` tokens to predict.

    ``ids`` and ``mask`` are ``(b, t)`` int64, the mask 1 on tokens and 0 on padding. ``places``
    ``(n,)`` counts positions over the flattened rows: the token after it is ``targets`` ``(n,)``.
    """

    ids: Tensor
    mask: Tensor
    places: Tensor
    targets: Tensor


def collate(rows: Sequence[Row], device: torch.device) -> Batch:
    """The batch of some rows, as long as the longest of them.

    Targets come from ``Row.learn`` alone: a token may share its id with the padding.
    """
    longest = max(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros_like(ids)
    learn = np.zeros_like(ids, dtype=np.bool_)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
        learn[i, : len(row.ids)] = row.learn
    assert not learn[:, 0].any(), "a row's first token has nothing before it to be predicted from"
    places = np.flatnonzero(learn)
    arrays = ids, mask, places - 1, ids.ravel()[places]
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def target_tokens(rows: Sequence[Row]) -> int:
    """How many tokens of some rows the loss counts."""
    return sum(int(row.learn.sum()) for row in rows)
