"""LoRA factors on a frozen base: where they sit, what they are called and how they begin."""

import json
import warnings
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmagentos.adapter import initial_vector
from llmagentos.errors import SettingError
from llmagentos.layout import Layout, LoraPair, Vector
from llmagentos.lm.layers import Layers, embeddings, layers_called, linear_layers
from llmagentos.lm.models import Base
from llmagentos.lm.quantized import whole_kind
from llmagentos.lm.whole import (
    check_biases,
    check_copied,
    compute_in_float32,
    is_whole,
    shared_weight,
)
from llmagentos.settings import LoraSettings
from llmagentos.settings.checks import require

ALL_LINEAR = "all-linear"
ADAPTER = "default"
"""PEFT's name of the adapter inside the model; the published names leave it out."""


def attach(base: Base, settings: LoraSettings, seed: int) -> PeftModel:
    """The base with one trainable pair of float32 factors at every targeted layer.

    ``base.model`` is changed in place and stays frozen, but for biases that are to be trained; B is
    zero and copies of whole modules are exact, so the output is the base's.
    Raises ``SettingError`` for a target that the model does not have or that takes no plain pair.
    """
    check_copied(base.model, settings)
    layers = linear_layers(base.model)
    for target in settings.target_modules:
        _check_target(target, layers | embeddings(base.model), base.model)
    config = _config(settings, base)
    config.fan_in_fan_out = any(issubclass(whole_kind(layer), Conv1D) for layer in layers.values())
    model = _adapted(base, config, settings)
    check_biases(model, settings)
    compute_in_float32(model)
    layout = layout_of(model)
    drawn = initial_vector(layout.factors, seed)
    load_vector(model, np.concatenate([drawn, values_of(model)[len(drawn) :]]))
    return model


def layout_of(model: PeftModel) -> Layout:
    """Names as in the published folder, shapes, and the pairs with their scales."""
    shapes = {name: tuple(tensor.shape) for name, tensor in _trained(model).items()}
    return Layout.order(shapes, tuple(_pairs(model)))


def parameters_by_name(model: PeftModel) -> dict[str, nn.Parameter]:
    """The live tensors by published name, in the order of the layout."""
    trained = _trained(model)
    return {name: trained[name] for name in layout_of(model).names}


def values_of(model: PeftModel) -> Vector:
    """The values of all that is trained, ``(d,)`` float32."""
    tensors = {name: p.detach().cpu().numpy() for name, p in _trained(model).items()}
    return layout_of(model).join(tensors)


@torch.no_grad()
def load_vector(model: PeftModel, vector: Vector) -> None:
    """The model's factors, and all else that is trained, hold the values of a ``(d,)`` vector."""
    tensors = layout_of(model).split(vector)
    for name, parameter in _trained(model).items():
        parameter.copy_(torch.tensor(tensors[name]))


def adapter_config(model: PeftModel, base: Base) -> dict[str, Any]:
    """What ``adapter_config.json`` says of the published adapter, for ``AutoPeftModel`` to load."""
    config = model.peft_config[ADAPTER].to_dict()
    config |= {
        "base_model_name_or_path": base.path,
        "inference_mode": True,
        "target_modules": sorted(config["target_modules"]),
    }
    return cast("dict[str, Any]", json.loads(json.dumps(config, default=list)))


def _check_target(target: str, layers: Layers, model: PreTrainedModel) -> None:
    if target == ALL_LINEAR:
        return
    what = f"linear layer or plain embedding of {type(model).__name__}, or {ALL_LINEAR},"
    hits = layers_called(target, layers, "lora.target_modules", what)
    shared = shared_weight(model)
    if shared is not None and any(layer.weight is shared for layer in hits):
        raise SettingError(
            f"lora.target_modules={target!r}: the head shares its weight with the embedding of "
            "this model, and a pair on one of them could not be merged; leave it out"
        )


def _config(settings: LoraSettings, base: Base) -> LoraConfig:
    everywhere = ALL_LINEAR in settings.target_modules
    whole = float(settings.alpha).is_integer()
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=int(settings.alpha) if whole else cast("int", settings.alpha),
        lora_dropout=settings.dropout,
        target_modules=ALL_LINEAR if everywhere else list(settings.target_modules),
        use_rslora=settings.rslora,
        modules_to_save=list(settings.modules_to_save) or None,
        bias=settings.bias,
        base_model_name_or_path=base.model.name_or_path or None,
    )


def _adapted(base: Base, config: LoraConfig, settings: LoraSettings) -> PeftModel:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        # _check_plain says more of it.
        warnings.filterwarnings("ignore", "The following .*_pattern keys", RuntimeWarning)
        try:
            model = cast("PeftModel", get_peft_model(base.model, config, revision=base.revision))
        except ValueError as error:
            raise SettingError(
                f"lora.target_modules={settings.target_modules!r}: {error}"
            ) from error
    _check_plain(model, settings)
    return model


def _check_plain(model: PeftModel, settings: LoraSettings) -> None:
    """Raise ``SettingError`` unless PEFT has put pairs of one rank on layers, and nowhere else.

    Where a model keeps its experts in one tensor, PEFT adapts that, at ranks of its own.
    """
    config: Any = model.peft_config[ADAPTER]
    plain = not (config.target_parameters or config.rank_pattern or config.alpha_pattern)
    remedy = (
        "experts of this model are one tensor and no layers, and an adapter on them could not be "
        "read again; name linear layers outside them, such as those of the attention"
    )
    require(plain, "lora.target_modules", settings.target_modules, remedy)


def _trained(model: PeftModel) -> dict[str, nn.Parameter]:
    return {
        _published(name): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name or is_whole(name, model.peft_config[ADAPTER])
    }


def _published(name: str) -> str:
    plain = name.replace(f".modules_to_save.{ADAPTER}.", ".").replace(f".{ADAPTER}.", ".")
    return plain.removesuffix(f".{ADAPTER}")


def lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    """Every layer with a pair of factors, by the name that its factors begin with."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LoraLayer)}


def _pairs(model: PeftModel) -> list[LoraPair]:
    return [
        LoraPair(
            a=f"{name}.lora_embedding_A" if _looks_up(layer) else f"{name}.lora_A.weight",
            b=f"{name}.lora_embedding_B" if _looks_up(layer) else f"{name}.lora_B.weight",
            rank=layer.r[ADAPTER],
            alpha=float(layer.lora_alpha[ADAPTER]),
            scale=float(layer.scaling[ADAPTER]),
        )
        for name, layer in sorted(lora_layers(model).items())
    ]


def _looks_up(layer: LoraLayer) -> bool:
    return isinstance(layer.get_base_layer(), nn.Embedding)
