"""Frozen linear layers in four or eight bits a weight, by bitsandbytes."""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer

from llmagentos.errors import SettingError
from llmagentos.lm.quiet import quiet
from llmagentos.settings import ModelSettings
from llmagentos.settings.checks import require, require_package

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "int8": {"load_in_8bit": True},
}
"""``nf4``: 64 weights share a scale, 256 scales of eight bits another (Dettmers et al. 2023,
arXiv:2305.14314, section 3). ``int8``: a scale for each row; where nothing is trained, and on a GPU
always, inputs are rounded too, but for columns with values of 6 and more (Dettmers et al. 2022,
arXiv:2208.07339, section 3)."""


def check_quantize(settings: ModelSettings, device: torch.device) -> None:
    """Raise ``SettingError`` where what ``model.quantize`` asks for is missing or does not run.

    One layer computes forward and backward on the device.
    """
    method = settings.quantize
    if method == "none":
        return
    require_package("bitsandbytes", "model.quantize", method, extra="quantized")
    try:
        _try_out(method, device)
    except RuntimeError as error:
        raise SettingError(
            f"model.quantize={method!r}: bitsandbytes cannot compute on {device} here ({error}); "
            "set model.quantize to none, or model.device to another"
        ) from error


@torch.enable_grad()
def _try_out(method: str, device: torch.device) -> None:
    from bitsandbytes import nn as bits  # noqa: PLC0415

    kinds = {
        "nf4": partial(bits.Linear4bit, quant_type="nf4"),
        "int8": partial(bits.Linear8bitLt, has_fp16_weights=False),
    }
    with torch.random.fork_rng(devices=[]):
        layer = kinds[method](64, 64, bias=False).to(device)
    inputs = torch.ones(2, 64, device=device, requires_grad=True)
    layer(inputs).sum().backward()


def check_whole(settings: ModelSettings, config: Mapping[str, Any]) -> None:
    """Raise ``SettingError`` for a model whose stored weights are quantized as these would be.

    Only whole weights can be told to be those that were agreed on.
    """
    stored = config.get("quantization_config")
    if stored and (settings.quantize != "none" or stored["quant_method"] == "bitsandbytes"):
        raise SettingError(
            f"model.source={settings.source!r} holds quantized weights ({stored['quant_method']}); "
            "name the model that they were made of, and set model.quantize to nf4 or int8"
        )


def quantize(model: PreTrainedModel, method: str, device: torch.device) -> None:
    """The linear layers of a frozen model hold four or eight bits a weight, on ``device``.

    The head, embeddings and norms stay as and where they are. A layer at a time is on the device
    whole. Layers compute in the type of the model. Raises ``SettingError`` if no layer is packed.
    """
    asked = {**CONFIGS[method], "bnb_4bit_compute_dtype": model.dtype}
    config = BitsAndBytesConfig(**asked)  # type: ignore[no-untyped-call]
    quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    whole = dict(model.named_parameters())
    with quiet():
        quantizer.preprocess_model(model, device_map=None)
        hollow = [name for name, parameter in model.named_parameters() if parameter.is_meta]
        remedy = f"{type(model).__name__} has no layers that bitsandbytes packs; set it to none"
        require(bool(hollow), "model.quantize", method, remedy)
        for name in hollow:
            _fill(model, name, whole.pop(name).to(device), quantizer)
        quantizer.postprocess_model(model)


def _fill(model: PreTrainedModel, name: str, value: torch.Tensor, quantizer: Any) -> None:
    """A parameter that has no values yet gets these, packed unless it is a bias."""
    owner, _, leaf = name.rpartition(".")
    layer = model.get_submodule(owner)
    parameter = nn.Parameter(value, requires_grad=False)
    if quantizer.param_needs_quantization(model, name):
        asked = {"full_layer_name": name, "model": model}
        parameter = quantizer.get_quantize_ops().convert({name: value}, **asked)[name]
    setattr(layer, leaf, parameter)
    _keep_order(layer)


def _keep_order(layer: nn.Module) -> None:
    """The layer never packs its weight anew.

    On a processor with AVX512-BF16 its first pass without gradients would: for good, in place, with
    scales in bfloat16, and no gradient goes through what it computes from then on.
    """
    layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def whole_kind(layer: nn.Module) -> type[nn.Module]:
    """The kind of a layer, for a quantized one of the layer that it was made of."""
    kind: type[nn.Module] = vars(layer).get("source_cls", type(layer))
    return kind


def quantized_kinds() -> set[tuple[type, type]]:
    """Kinds of LoRA layer with the quantized layer that each is for; none where there are none."""
    if find_spec("bitsandbytes") is None:
        return set()
    from bitsandbytes import nn as bits  # noqa: PLC0415
    from peft.tuners.lora import bnb  # noqa: PLC0415

    return {(bnb.Linear4bit, bits.Linear4bit), (bnb.Linear8bitLt, bits.Linear8bitLt)}


def eight_bit_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of eight bits; each holds its input until its backward pass.

    So it does where gradient checkpointing would let go of it.
    """
    if find_spec("bitsandbytes") is None:
        return []
    from bitsandbytes import nn as bits  # noqa: PLC0415

    return [layer for layer in model.modules() if isinstance(layer, bits.Linear8bitLt)]
