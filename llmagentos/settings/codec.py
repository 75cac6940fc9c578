"""How an agent's change becomes bytes."""

from dataclasses import dataclass
from typing import Literal

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class CodecSettings:
    """What travels in place of the float32 values of a change."""

    name: Literal["fp32", "bf16", "fp16", "int8", "top_k"] = "fp32"
    """``fp32`` sends every bit; ``bf16`` and ``fp16`` take half the bytes, ``int8`` about a quarter
    (blocks of 128, rounded at random), ``top_k`` only the largest values with their places."""
    top_k: float = 0.1
    """Share of the values that ``top_k`` sends; each takes 8 bytes."""
    error_feedback: bool = True
    """Add to an agent's next change what its codec has lost so far (Karimireddy et al. 2019,
    arXiv:1901.09847); the agent keeps that itself. ``fp32`` loses nothing."""

    def __post_init__(self) -> None:
        require(0 < self.top_k <= 1, "codec.top_k", self.top_k, "needs to lie in (0, 1]")
