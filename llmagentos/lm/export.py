"""Base and adapter as one ordinary model."""

import warnings
from dataclasses import replace
from pathlib import Path

import torch

from llmagentos.errors import SettingError
from llmagentos.folders import whole_folder
from llmagentos.lm.lora import attach, layout_of, load_vector
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import choose_device, choose_dtype, load_base
from llmagentos.lm.quiet import quiet
from llmagentos.settings import ModelSettings


def merge(settings: ModelSettings, adapter: Path, out: Path, seed: int = 0) -> None:
    """``out`` is a model folder that loads anywhere: W + scale * B @ A in place of every W.

    Modules that were trained whole, and biases, are in the place of the base's; a head among them
    shares its weight with the embedding no longer, and ``config.json`` says so.
    Summed in float32, then stored in the type that ``model.dtype`` says. W is whole, also where the
    adapter was trained on a quantized base. ``seed`` draws the weights of ``tiny`` only. Raises
    ``SettingError`` if ``out`` exists or the adapter is of another base.
    """
    if out.exists():
        raise SettingError(f"out={str(out)!r} exists: remove it or name another folder")
    lora = adapter_settings(adapter)
    dtype = choose_dtype(settings, choose_device(settings))
    base = load_base(replace(settings, dtype="float32", quantize="none"), seed)
    model = attach(base, lora, seed)
    load_vector(model, adapter_vector(adapter, layout_of(model)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        merged = model.merge_and_unload()
    with quiet(), whole_folder(out) as part:
        torch.nn.Module.to(merged, dtype).save_pretrained(part)
        base.tokenizer.save_pretrained(part)
