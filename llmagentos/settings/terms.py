"""What a coordinator and its agents agree on before the first round."""

from dataclasses import dataclass
from typing import Literal

from llmagentos.settings.checks import require
from llmagentos.settings.model import LoraSettings, ModelSettings


@dataclass(frozen=True)
class RowSettings:
    """How examples become rows of tokens, the same for every agent; as in ``corpus``."""

    template: Literal["auto", "chat", "plain"] = "auto"
    """``chat`` wraps rows by the tokenizer's chat template, ``plain`` joins prompt and response."""
    loss_on: Literal["response", "all"] = "response"
    """Tokens that are learnt."""
    max_tokens: int = 80
    """Longest row in tokens."""
    held_out: float = 0.1
    """Share of each agent's rows that is kept out of training."""


@dataclass(frozen=True)
class Terms:
    """The file that a coordinator writes, and that each organisation keeps and is held to."""

    coordinator: str = ""
    """Public key of the coordinator, 64 hex digits: tasks of any other are refused."""
    base: str = ""
    """Hash of the base model's weights as loaded: a task for another base is refused."""
    seed: int = 0
    """Seed of the run."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the training."""
    model: ModelSettings = ModelSettings()
    """The base model; each organisation may name another place where it has the same weights."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    rows: RowSettings = RowSettings()
    """How examples become rows."""

    def __post_init__(self) -> None:
        for name in ("coordinator", "base"):
            value = getattr(self, name)
            digits = len(value) == 64 and set(value) <= set("0123456789abcdef")
            remedy = "needs 64 hex digits, as the coordinator's terms file has them"
            require(digits, name, value, remedy)
