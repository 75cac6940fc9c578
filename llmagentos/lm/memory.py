"""What training takes, estimated from the model and the settings."""

from typing import Any

from llmagentos.settings import RunSettings

PER_ADAPTER = 4 * 6
"""Bytes for each value of a trained adapter: values, gradient, where it started, two moments, and
the gradient of one backward pass."""


def pass_bytes(config: Any, settings: RunSettings) -> int:
    """Roughly what the layers of a model keep of one agent's forward pass for the backward pass.

    A layer keeps 34 values of the hidden size a token, half of them of two bytes in 16-bit
    training, and the attention scores: Korthikanti et al. 2022, arXiv:2205.05198, section 4.1.
    """
    local, longest = settings.local, settings.corpus.max_tokens
    scores = 5 * config.num_attention_heads * longest
    layers: int = 1 if local.gradient_checkpointing else config.num_hidden_layers
    half = settings.model.dtype != "float32" or local.precision != "no"
    a_token: int = (34 * config.hidden_size + scores) * (1 if half else 2)
    return layers * local.batch * longest * a_token


def agents_within(budget_bytes: float, config: Any, settings: RunSettings, values: int) -> int:
    """How many agents with adapters of so many values train side by side in a budget; at least 1.

    The budget is for what every agent adds; the base model and the logits of a chunk are there
    with one agent too.
    """
    return max(1, int(budget_bytes // (PER_ADAPTER * values + pass_bytes(config, settings))))
