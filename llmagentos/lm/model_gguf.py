"""A GGUF file becomes a folder that loads in a second, once, in the cache."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from llmagentos.errors import DiskFull, ModelError
from llmagentos.folders import whole_folder
from llmagentos.lm.quiet import quiet
from llmagentos.packages import CACHE_VARIABLE, cache_folder


def converted(name: str, digest: str, file: Callable[[], Path]) -> Path:
    """The cached folder of the GGUF file that has this hash; ``file`` is asked for it if need be.

    The folder holds model, tokenizer, chat template and generation settings. One process converts
    and the others wait; a killed one leaves nothing that counts. Raises ``ModelError`` for a file
    that cannot be read or a cache that is full.
    """
    folder = cache_folder() / "models" / f"{name}-{digest[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.is_dir():
                _convert(file(), folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Weights are stored as float32: exactly the dequantised ones, mapped into memory when read."""
    print(f"converting {gguf.name} into {folder}, once; it takes a minute", file=sys.stderr)
    try:
        with quiet(), whole_folder(folder) as part:
            _write(gguf, part)
    except (DiskFull, OSError, SafetensorError) as error:
        free_mb = shutil.disk_usage(folder.parent).free >> 20
        raise ModelError(
            f"{gguf} could not be converted into {folder}: {error}. A 4-bit file needs some six "
            f"times its size, here {gguf.stat().st_size >> 20} MB, and {free_mb} MB are free: "
            f"make room, or set {CACHE_VARIABLE} to a folder that has it"
        ) from error


def _write(gguf: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    except (ValueError, KeyError, IndexError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"{gguf} is no GGUF file that transformers reads ({error}): fetch it again, "
            "or set model.source to a folder in the Hugging Face layout"
        ) from error
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
