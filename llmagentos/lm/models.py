"""The frozen base model that every agent shares."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmagentos.errors import ModelError, SettingError
from llmagentos.lm.hashing import weights_hash
from llmagentos.lm.model_sources import CHOICES, locate
from llmagentos.lm.model_tiny import tiny_model, tiny_tokenizer
from llmagentos.lm.quantized import check_quantize, check_whole, quantize
from llmagentos.lm.quiet import quiet
from llmagentos.settings import ModelSettings

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True)
class Base:
    """A frozen model in evaluation mode, on its device, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """What ``model.source`` said."""
    path: str | None
    """Folder or hub id that ``from_pretrained`` takes; none for a model made in memory."""
    revision: str | None
    """Branch, tag or commit of a hub model."""
    hash: str
    """Identity of the whole weights as loaded, see ``base_hash``: that of the model in
    ``model.dtype``, however it is quantized afterwards."""
    quantized_hash: str | None = None
    """The same of what quantizing made of them; none for whole weights."""


def load_base(settings: ModelSettings, seed: int) -> Base:
    """The model that the settings name; ``seed`` draws the weights of ``tiny`` only.

    What a disk or the cache holds is read without any network call.
    To be quantized, whole weights are read into the host's memory and go to the device layer by
    layer. Raises ``ModelError`` that says what was tried and what to set.
    """
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    check_quantize(settings, device)
    model, tokenizer, path = _load(settings, dtype, seed)
    _check_tokenizer(settings, model, tokenizer)
    torch.nn.Module.to(model, dtype).requires_grad_(False).train(False)
    whole, packed = base_hash(model), None
    if settings.quantize != "none":
        quantize(model, settings.quantize, device)
        packed = base_hash(model)
    torch.nn.Module.to(model, device)
    return Base(model, tokenizer, settings.source, path, settings.revision, whole, packed)


def base_hash(model: PreTrainedModel) -> str:
    """``weights_hash`` of all that a model holds; to be taken before adapters are attached."""
    return weights_hash(model.state_dict(keep_vars=True))


def choose_device(settings: ModelSettings) -> torch.device:
    """The device that ``model.device`` names; ``auto`` is a GPU where there is one, else the CPU.

    ``cuda`` without a number is the GPU of this process among those that a launcher started.
    """
    name, gpus = settings.device, torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    kind, _, number = name.partition(":")
    if name != "cpu" and (kind != "cuda" or not number.isdigit()):
        raise SettingError(f"model.device={settings.device!r}: set auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number) >= gpus:
        raise SettingError(
            f"model.device={settings.device!r}: {name} is not there, torch sees {gpus} GPUs; "
            "set auto or cpu, or start fewer processes"
        )
    return torch.device(name)


def choose_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """The type of the frozen weights; ``auto`` is bfloat16 on a GPU that has it, else float32."""
    if settings.dtype != "auto":
        chosen: torch.dtype = getattr(torch, settings.dtype)
        return chosen
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def _load(settings: ModelSettings, dtype: torch.dtype, seed: int) -> tuple[*Loaded, str | None]:
    if settings.source == "tiny":
        tokenizer = tiny_tokenizer()
        return tiny_model(tokenizer, seed), tokenizer, None
    where = locate(settings.source)
    try:
        return *_read(where, settings, dtype, offline=True), str(where)
    except LOADING_ERRORS as here:
        if isinstance(where, Path):
            raise ModelError(f"model.source={settings.source!r}: {_line(here)}") from here
        first = here
    try:
        return *_read(where, settings, dtype, offline=False), where
    except LOADING_ERRORS as there:
        absent = isinstance(first, LocalEntryNotFoundError)
        raise ModelError(
            f"model.source={settings.source!r} cannot be reached. There is no such folder. "
            f"In the hub's cache: {'nothing of it' if absent else _line(first)}. "
            f"On the hub: {_line(there)}. "
            f"Set {CHOICES}; or HF_ENDPOINT to a mirror of the hub"
        ) from there


LOADING_ERRORS = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError)


def _read(where: Path | str, settings: ModelSettings, dtype: torch.dtype, offline: bool) -> Loaded:
    """Model and tokenizer; the bars of a download are shown, those of reading a disk are not."""
    revision = settings.revision or "main"
    asked = {"revision": revision, "local_files_only": offline, "trust_remote_code": False}
    with quiet() if offline else nullcontext():
        if isinstance(where, str):
            hf_hub_download(where, "config.json", revision=revision, local_files_only=offline)
        tokenizer = AutoTokenizer.from_pretrained(where, **asked)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, output_loading_info=True, **asked
        )
    model, report = loaded
    check_whole(settings, model.config.to_dict())
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"model.source={settings.source!r} lacks weights of its own: {missing}")
    return model, tokenizer


def _check_tokenizer(
    settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The tokenizer can end and pad a row and knows how long one may be."""
    if tokenizer.eos_token is None:
        raise ModelError(
            f"model.source={settings.source!r}: its tokenizer has no token that ends a text; "
            "add eos_token to its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
