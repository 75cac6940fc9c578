"""The accelerator of a process: device, mixed precision, and the other processes of its agent."""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradScalerKwargs

from llmagentos.errors import SettingError
from llmagentos.settings.checks import require

WHOLE = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU}
"""Launches in which every process holds all parameters."""


def resolve_precision(precision: str, device: torch.device) -> str:
    """``no``, ``bf16`` or ``fp16``; ``auto`` is bf16 on a CUDA device that computes in it."""
    if precision == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if bf16 else "no"
    on_gpu = precision != "fp16" or device.type == "cuda"
    require(
        on_gpu, "local.precision", precision, f"needs a GPU, the model is on {device}; use auto"
    )
    return precision


def accelerator_for(precision: str, device: torch.device) -> Accelerator:
    """The accelerator for a model on ``device``, with the precision resolved.

    fp16 starts from a loss scale of 4096: a round has few steps and none to waste on finding it.
    Raises ``SettingError`` for a sharded launch, and for a process on another process's GPU.
    """
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=resolve_precision(precision, device),
        kwargs_handlers=[GradScalerKwargs(init_scale=2.0**12)],
    )
    if accelerator.distributed_type not in WHOLE:
        raise SettingError(
            f"accelerate was set up for {accelerator.distributed_type.value}: an adapter is one "
            "flat vector, which needs all parameters on every process; launch with torchrun"
        )
    own = accelerator.local_process_index
    shared = accelerator.num_processes > 1 and device.type == "cuda" and device.index != own
    require(
        not shared, "model.device", str(device), f"process {own} of this agent needs cuda:{own}"
    )
    return accelerator
