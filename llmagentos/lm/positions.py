"""How many tokens a model has positions for."""

from collections.abc import Iterator

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from llmagentos.settings.checks import require

SPARE_ROWS = 2
"""Rows that some tables have beyond the last position, for padding (OPT, BioGPT)."""


def longest_row(model: PreTrainedModel | PeftModel) -> int | None:
    """The tokens of the longest row that a model can read; none where every length can be read.

    Positions end where they lie in a table. Those that are computed go on beyond what
    ``max_position_embeddings`` says, and what a tokenizer says of lengths is often a guess.
    """
    last: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    ends = last is not None and any(0 <= rows - last <= SPARE_ROWS for rows in _tables(model))
    return last if ends else None


def check_longest(model: PreTrainedModel, setting: str, max_tokens: int) -> None:
    """Raise ``SettingError`` unless the model has positions for rows of so many tokens."""
    longest = longest_row(model)
    remedy = f"{type(model).__name__} has positions for {longest} tokens; set at most {longest}"
    require(longest is None or max_tokens <= longest, setting, max_tokens, remedy)


def _tables(model: PreTrainedModel | PeftModel) -> Iterator[int]:
    """The rows of every table that may hold positions: learnt ones, and those of GPT-J."""
    tokens = model.get_input_embeddings()
    for layer in model.modules():
        if isinstance(layer, nn.Embedding) and layer is not tokens:
            yield layer.num_embeddings
    for name, buffer in model.named_buffers():
        if name.endswith(".embed_positions"):
            yield len(buffer)
