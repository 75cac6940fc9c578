"""Every "auto" of the settings, decided once by a static rule and then written down."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmagentos.lm.model_adapter import adapter_settings
from llmagentos.lm.models import choose_device, choose_dtype
from llmagentos.lm.precision import resolve_precision
from llmagentos.settings import RunSettings


def resolved(settings: RunSettings) -> RunSettings:
    """The settings with no ``auto`` and no absent number in them; a resumed run uses these again.

    ``threads``: the cores that this process may use, shared with its agent's others.
    ``model.device`` and ``model.dtype``: a GPU and bfloat16 where there are, else the CPU and
    float32. ``local.precision``: bf16 on such a GPU.
    ``lora``: that of ``init_adapter`` where one is given. ``server.lr``: 1 for fedavg and fedavgm,
    else 0.03. ``schedule_rounds``: ``rounds``.
    """
    device = choose_device(settings.model)
    start = settings.init_adapter
    model: dict[str, Any] = {
        "device": settings.model.device.replace("auto", device.type),
        "dtype": str(choose_dtype(settings.model, device)).removeprefix("torch."),
    }
    local: dict[str, Any] = {
        "precision": resolve_precision(settings.local.precision, device),
    }
    return replace(
        settings,
        lora=adapter_settings(Path(start)) if start else settings.lora,
        threads=settings.threads or max(1, len(os.sched_getaffinity(0)) // processes_here()),
        schedule_rounds=settings.schedule_rounds or settings.rounds,
        model=replace(settings.model, **model),
        local=replace(settings.local, **local),
        server=replace(settings.server, lr=settings.server.server_lr),
    )


def processes_here() -> int:
    """How many processes of an agent a launcher has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
