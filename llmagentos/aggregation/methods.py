"""The ways to aggregate LoRA factors, as one table.

M = sum_i p_i s_i B_i A_i is the mean of the agents' products, which averaging A and B apart misses
by s sum_i p_i (B_i - B)(A_i - A).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmagentos.aggregation.rules import Rule, averaged, fedex, fedsvd, flexlora, flora, lora_fair
from llmagentos.layout import Layout, Part

Exact = Literal["exact", "the best of its rank", "closer", "inexact", "personal"]


@dataclass(frozen=True)
class Method:
    """What the agents train and send in each round, and what the server makes of it.

    ``trained`` and ``sent`` name a part for each round of a cycle, from the first round on.
    """

    paper: str
    exact: Exact
    """How the product that comes back stands to M; "personal" where agents keep a factor."""
    trained: tuple[Part, ...] = ("both",)
    sent: tuple[Part, ...] = ("both",)
    rule: Rule | None = None
    """What the server makes of the products; None for the mean of what is sent, which takes any
    server optimizer."""
    ranks: bool = False
    """Whether agents may have ranks of their own."""
    modules: bool = False
    """Whether agents may have adapted layers of their own."""
    by_norm: bool = False
    """Whether an agent's share grows with the norm of its product."""
    afresh: bool = False
    """Whether everything moves into the base and the adapter starts again."""
    turns: bool = False
    """Whether a coordinate means something else after the round."""

    @property
    def private(self) -> bool:
        """Whether agents keep what they train and do not send."""
        return self.exact == "personal"

    def trained_in(self, round_: int) -> Part:
        """The part that is trained in a round, counted from 1."""
        return self.trained[(round_ - 1) % len(self.trained)]

    def sent_in(self, round_: int) -> Part:
        """The part that is sent in a round, counted from 1."""
        return self.sent[(round_ - 1) % len(self.sent)]

    def values_up(self, layout: Layout, round_: int) -> int:
        """How many values an agent's answer has in a round."""
        return layout.only(self.sent_in(round_)).size


METHODS: Mapping[str, Method] = {
    "naive": Method("FedIT: Zhang et al. 2023, arXiv:2305.05644", "inexact"),
    "zero_pad": Method(
        "the baseline of Cho et al. 2024, arXiv:2401.06432",
        "inexact",
        rule=averaged,
        ranks=True,
        modules=True,
    ),
    "hetlora": Method(
        "HetLoRA: Cho et al. 2024, arXiv:2401.06432",
        "inexact",
        rule=averaged,
        ranks=True,
        by_norm=True,
    ),
    "ffa": Method("FFA-LoRA: Sun et al. 2024, arXiv:2403.12313", "exact", ("B",), ("B",)),
    "rolora": Method("RoLoRA: Chen et al. 2025, arXiv:2502.01755", "exact", ("B", "A"), ("B", "A")),
    "fedsa": Method("FedSA-LoRA: Guo et al. 2025, arXiv:2410.01463", "personal", ("both",), ("A",)),
    "flora": Method(
        "FLoRA: Wang et al. 2024, arXiv:2409.05976",
        "exact",
        rule=flora,
        ranks=True,
        afresh=True,
        turns=True,
    ),
    "flexlora": Method(
        "FlexLoRA: Bai et al. 2024, arXiv:2402.11505",
        "the best of its rank",
        rule=flexlora,
        ranks=True,
        modules=True,
        turns=True,
    ),
    "fedex": Method("FedEx-LoRA: Singhal et al. 2025, arXiv:2410.09432", "exact", rule=fedex),
    "fedsvd": Method(
        "FedSVD: Lee et al. 2025, arXiv:2505.12805",
        "exact",
        ("B",),
        ("B",),
        rule=fedsvd,
        turns=True,
    ),
    "lora_fair": Method("LoRA-FAIR: Bian et al. 2025, arXiv:2411.14961", "closer", rule=lora_fair),
}
"""By the names that ``aggregation`` takes."""
