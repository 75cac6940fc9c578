"""What is trained beside pairs of factors: copies of whole modules, and biases of the base."""

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmagentos.lm.layers import Layers, layers_called, layers_with_weights
from llmagentos.settings import LoraSettings
from llmagentos.settings.checks import require

BIASES = {"none": None, "lora_only": ".base_layer.bias", "all": ".bias"}
"""How the names of the biases end that ``lora.bias`` trains."""


def check_copied(model: PreTrainedModel, lora: LoraSettings) -> None:
    """Raise ``SettingError`` unless the model has the modules that are to be trained whole."""
    layers = layers_with_weights(model)
    for name in lora.modules_to_save:
        _check_module(name, layers, model)


def check_biases(model: PeftModel, lora: LoraSettings) -> None:
    """Raise ``SettingError`` unless biases that are to be trained are there, and in float32."""
    end = BIASES[lora.bias]
    if end is None:
        return
    biases = [p for name, p in model.named_parameters() if name.endswith(end)]
    remedy = "the base has no such biases; leave it out"
    require(bool(biases), "lora.bias", lora.bias, remedy)
    packed = any(not p.is_floating_point() for p in model.parameters())
    remedy = "quantized layers keep their biases in a type of their own; set model.quantize to none"
    require(not packed, "lora.bias", lora.bias, remedy)
    wide = all(bias.dtype == torch.float32 for bias in biases)
    remedy = (
        f"the base is in {str(model.dtype).removeprefix('torch.')}, and biases are trained where "
        "they are, in float32; set model.dtype to float32"
    )
    require(wide, "lora.bias", lora.bias, remedy)


def is_whole(name: str, config: Any) -> bool:
    """Whether a parameter of a model with PEFT's ``config`` is trained beside the pairs."""
    if ".modules_to_save." in name:
        return True
    end = BIASES[config.bias]
    return end is not None and name.endswith(end) and ".original_module." not in name


def compute_in_float32(model: PeftModel) -> None:
    """The copies hold float32, and answer in the type of the modules that they stand for."""
    for copy in copies(model):
        former = next(copy.parameters()).dtype
        if former != torch.float32:
            copy.float()
            copy.register_forward_pre_hook(_widened)
            copy.register_forward_hook(lambda *called, to=former: called[-1].to(to))


def copies(model: PeftModel) -> Iterator[nn.Module]:
    """The copies of whole modules, which are trained."""
    for part in model.modules():
        if isinstance(part, ModulesToSaveWrapper):
            yield from part.modules_to_save.values()


def shared_weight(model: PreTrainedModel) -> Tensor | None:
    """The weight that embedding and head share; None where each has one of its own."""
    causal: Any = model
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    return embedding.weight if head is not None and head.weight is embedding.weight else None


def _check_module(name: str, layers: Layers, model: PreTrainedModel) -> None:
    what = f"layer of {type(model).__name__} with weights"
    hits = layers_called(name, layers, "lora.modules_to_save", what)
    _check_name(name, hits, model)
    packed = any(not p.is_floating_point() for layer in hits for p in layer.parameters())
    remedy = "its weights are quantized, and no copy of them can learn; leave it out"
    require(not packed, "lora.modules_to_save", name, remedy)
    remedy = (
        "it shares its weight with the head of this model, which would not learn with it; name "
        "lm_head, or untie the two in the base first"
    )
    shared = model.get_input_embeddings() in hits and shared_weight(model) is not None
    require(not shared, "lora.modules_to_save", name, remedy)


def _check_name(name: str, hits: list[nn.Module], model: PreTrainedModel) -> None:
    """Raise ``SettingError`` where PEFT, for which a name may begin within a word, copies more."""
    modules = list(model.named_modules())
    more = [full for full, part in modules if full.endswith(name) and part not in hits]
    meant = next(full for full, part in modules if part is hits[0])
    remedy = f"PEFT would copy {', '.join(more[:2])} too; name it in full, as in {meant}"
    require(not more, "lora.modules_to_save", name, remedy)


def _widened(_copy: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with those that are fractions in float32; token ids stay what they are."""
    return tuple(
        each.float() if isinstance(each, Tensor) and each.is_floating_point() else each
        for each in inputs
    )
