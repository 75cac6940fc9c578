"""An adapter folder that PEFT or a former run wrote, read strictly: what to start from."""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from llmagentos.errors import SettingError
from llmagentos.layout import Layout, Vector
from llmagentos.settings import LoraSettings

READ = {
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "bias",
    "use_rslora",
}
"""Fields of ``adapter_config.json`` that become settings."""

WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "megatron_core",
    "peft_version",
    "revision",
    "task_type",
}
"""Fields that do not change what an adapter does once it is trained."""

BIASES = get_args(get_type_hints(LoraSettings)["bias"])
"""Biases of the base that an adapter may have."""

KEEPS_BASE = (True, False, "gaussian", "eva", "orthogonal", None)
"""Ways to draw first factors that leave the base model as it is."""


def adapter_settings(folder: Path) -> LoraSettings:
    """What a PEFT folder trains and at which scale, out of its ``adapter_config.json``.

    Raises ``SettingError`` for anything but plain LoRA.
    """
    config = _read_config(folder)
    if config.get("peft_type") != "LORA":
        raise _refusal(
            folder, "peft_type", config.get("peft_type"), "only LORA can be started from"
        )
    neutral = vars(LoraConfig())
    for field in sorted(config.keys() - READ - WITHOUT_EFFECT):
        if (config[field] or None) != (neutral.get(field) or None):
            raise _refusal(folder, field, config[field], "only plain LoRA can be started from")
    if config.get("init_lora_weights") not in KEEPS_BASE:
        remedy = "it changes the base; convert it to plain LoRA with PEFT first"
        raise _refusal(folder, "init_lora_weights", config["init_lora_weights"], remedy)
    bias: Any = config.get("bias") or "none"
    if bias not in BIASES:
        raise _refusal(folder, "bias", bias, f"only {', '.join(BIASES)} can be started from")
    targets = config["target_modules"]
    if isinstance(targets, str) and targets != "all-linear":
        raise _refusal(folder, "target_modules", targets, "list the names in place of a pattern")
    return LoraSettings(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout", 0)),
        target_modules=[targets] if isinstance(targets, str) else sorted(targets),
        modules_to_save=sorted(config.get("modules_to_save") or []),
        bias=bias,
        rslora=bool(config.get("use_rslora")),
    )


def adapter_vector(folder: Path, layout: Layout) -> Vector:
    """The weights of a PEFT folder as a ``(d,)`` float32 vector in the order of the layout.

    Raises ``SettingError`` unless names and shapes are just those of the layout.
    """
    path = folder / "adapter_model.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SettingError(
            f"adapter folder {str(folder)!r}: {path.name} cannot be read ({error}); "
            "save the adapter again with safe_serialization=True"
        ) from error
    _check_tensors(folder, layout, tensors)
    return layout.join({name: _float32(tensor) for name, tensor in tensors.items()})


def _float32(tensor: torch.Tensor) -> Vector:
    return np.asarray(tensor.float().numpy())


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(
            f"adapter folder {str(folder)!r}: {path.name} cannot be read ({error}); "
            "set the folder that PEFT's save_pretrained or a run wrote"
        ) from error
    return config


def _check_tensors(folder: Path, layout: Layout, tensors: dict[str, torch.Tensor]) -> None:
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    where = f"adapter folder {str(folder)!r}"
    if base := [name for name in tensors if name.endswith(".base_layer.weight")]:
        raise SettingError(
            f"{where} has {base[0]}, a weight of the base: save the adapter again with "
            "save_embedding_layers=False"
        )
    if odd := sorted(tensors.keys() ^ shapes.keys()):
        side = "lacks" if odd[0] in shapes else "has an unknown"
        raise SettingError(f"{where} {side} {odd[0]}: it was trained on another base than model")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise SettingError(
                f"{where}: {name} has shape {tuple(tensors[name].shape)}, the base needs {shape}; "
                "set model.source to the base that it was trained on"
            )
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise SettingError(f"{where} holds values that are not finite: train it again")


def _refusal(folder: Path, field: str, value: Any, remedy: str) -> SettingError:
    return SettingError(f"adapter folder {str(folder)!r} has {field}={value!r}: {remedy}")
