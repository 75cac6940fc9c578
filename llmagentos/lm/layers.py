"""The layers of a base model, and those that a setting names."""

from difflib import get_close_matches

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmagentos.errors import SettingError

Layers = dict[str, nn.Module]
"""Layers by their full names."""


def linear_layers(model: PreTrainedModel) -> Layers:
    """Every linear layer."""
    modules = model.named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, nn.Linear | Conv1D)}


def embeddings(model: PreTrainedModel) -> Layers:
    """Every embedding, but for those that scale what they look up."""
    return {name: layer for name, layer in model.named_modules() if type(layer) is nn.Embedding}


def layers_with_weights(model: PreTrainedModel) -> Layers:
    """Every layer that has weights of its own, and not only those of layers in it."""
    modules = model.named_modules()
    return {name: layer for name, layer in modules if any(True for _ in layer.parameters(False))}


def layers_called(name: str, layers: Layers, setting: str, what: str) -> list[nn.Module]:
    """The layers whose full names end with a name.

    Raises ``SettingError`` where there is none, with the names that are nearest to it; ``what``
    says which layers these are.
    """
    hits = [layer for full, layer in layers.items() if f".{full}".endswith(f".{name}")]
    if not hits:
        known = sorted({full.rpartition(".")[2] for full in layers})
        near = get_close_matches(name, known, n=3) or known
        raise SettingError(
            f"{setting}={name!r}: no {what} has that name; did you mean {', '.join(near)}?"
        )
    return hits
