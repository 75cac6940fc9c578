"""Held-out loss and accuracy."""

from collections.abc import Callable, Iterable, Sequence

import torch

from llmagentos.corpus import Row
from llmagentos.lm.batches import collate, target_tokens
from llmagentos.lm.workbench import Workbench


@torch.no_grad()
def evaluate(
    bench: Workbench,
    rows: Sequence[Row],
    batch: int,
    track: Callable[[Iterable[Sequence[Row]]], Iterable[Sequence[Row]]],
) -> dict[str, float]:
    """``loss``, the mean negative log-likelihood per target token in nats, ``accuracy``, the share
    of target tokens that the model finds likeliest, and ``tokens``, their number.

    ``batch`` rows at a time over all processes, the longest first, so that little is padding.
    """
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    batches = [ordered[start : start + batch] for start in range(0, len(rows), batch)]
    device = bench.flat.vector.device
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for share in map(bench.share, track(batches)):
        if share:
            with bench.accelerator.autocast():
                total += bench.score.with_hits(collate(share, device)).sum(dim=1)
    nll, hits = bench.accelerator.reduce(total, "sum").tolist()
    tokens = target_tokens(rows)
    return {"loss": nll / tokens, "accuracy": hits / tokens, "tokens": float(tokens)}
