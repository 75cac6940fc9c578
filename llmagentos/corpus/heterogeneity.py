"""How much the agents' corpora differ, as rows of a short table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmagentos.corpus.example import Silo


def heterogeneity(silos: Sequence[Silo]) -> list[dict[str, str | int | float]]:
    """A row per agent: counts of rows and target tokens, their mean, and the divergence.

    ``divergence`` is the Jensen-Shannon divergence, base 2, between the learnt tokens of the agent
    and of all agents together: 0 is alike, 1 shares no token. Counts are of training rows;
    ``dropped`` and ``cut`` of all.
    """
    vocabulary = 1 + max(int(row.ids.max()) for silo in silos for row in silo.train)
    counts = [_target_counts(silo, vocabulary) for silo in silos]
    pooled = np.sum(counts, axis=0)
    return [
        {
            "agent": silo.name,
            "train": len(silo.train),
            "held_out": len(silo.held_out),
            "tokens": int(count.sum()),
            "mean_length": float(np.mean([len(row.ids) for row in silo.train])),
            "divergence": jensen_shannon(count, pooled),
            "dropped": silo.dropped,
            "cut": silo.cut,
        }
        for silo, count in zip(silos, counts, strict=True)
    ]


def jensen_shannon(p: NDArray[np.int64], q: NDArray[np.int64]) -> float:
    """Divergence of two count vectors ``(v,)`` in bits, in [0, 1].

    Lin 1991, IEEE Transactions on Information Theory 37(1), equation 4.1 with equal weights.
    """
    shares = p / p.sum(), q / q.sum()
    middle = (shares[0] + shares[1]) / 2
    return sum(_relative_entropy(share, middle) for share in shares) / 2


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    seen = p > 0
    return float(np.sum(p[seen] * np.log2(p[seen] / q[seen])))


def _target_counts(silo: Silo, vocabulary: int) -> NDArray[np.int64]:
    """``(v,)`` how often each token is a target."""
    targets = np.concatenate([row.ids[row.learn] for row in silo.train])
    return np.bincount(targets, minlength=vocabulary)
