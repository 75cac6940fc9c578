"""Every "auto" of the settings, decided once by a static rule and then written down."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmagentos.lm.memory import demand_of
from llmagentos.lm.model_adapter import adapter_settings
from llmagentos.lm.models import choose_device, choose_dtype
from llmagentos.lm.obstacle import obstacle
from llmagentos.lm.precision import resolve_precision
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.settings import LoraSettings, RunSettings

log = logging.getLogger(__name__)

SMALL_PASS = {"cpu": 128, "cuda": 4096}
"""Positions of one agent's forward pass up to which a batch of many agents is clearly faster: on a
CPU its matrix products are then narrow, on a GPU its kernels short. That of the GPU is a guess."""


def resolved(settings: RunSettings) -> RunSettings:
    """The settings with what can be decided without a model; a resumed run uses these again.

    ``threads``: the cores that this process may use, shared with its agent's others.
    ``model.device`` and ``model.dtype``: a GPU and bfloat16 where there are, else the CPU and
    float32. ``local.precision``: bf16 on such a GPU.
    ``lora``: that of ``init_adapter`` where one is given. ``server.lr``: that of its strategy.
    ``server.resend_s``: half an hour over Flower.
    ``schedule_rounds``: ``rounds``.
    """
    device = choose_device(settings.model)
    start, lora = settings.init_adapter, settings.lora
    model: dict[str, Any] = {
        "device": settings.model.device.replace("auto", device.type),
        "dtype": str(choose_dtype(settings.model, device)).removeprefix("torch."),
    }
    local: dict[str, Any] = {
        "precision": resolve_precision(settings.local.precision, device),
    }
    return replace(
        settings,
        lora=_started(Path(start), lora) if start else lora,
        threads=settings.threads or max(1, len(os.sched_getaffinity(0)) // processes_here()),
        schedule_rounds=settings.schedule_rounds or settings.rounds,
        model=replace(settings.model, **model),
        local=replace(settings.local, **local),
        server=replace(settings.server, lr=settings.server.server_lr, resend_s=_resend(settings)),
    )


FLOWER_RESEND_S = 1800.0
"""Over Flower an answer can be lost; asking for one that is not costs a task and an answer."""


def _resend(settings: RunSettings) -> float | None:
    given = settings.server.resend_s
    return FLOWER_RESEND_S if given is None and settings.engine == "flower" else given


def _started(folder: Path, lora: LoraSettings) -> LoraSettings:
    """The settings of an adapter to start from, with what is single agents' own."""
    return replace(adapter_settings(folder), ranks=lora.ranks, modules=lora.modules)


def processes_here() -> int:
    """How many processes of an agent a launcher has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def with_trainer(settings: RunSettings, single: LoraTrainer) -> RunSettings:
    """The settings with ``trainer`` and ``cohort.agents`` decided too, for a loaded model.

    ``trainer``: cohort where an agent's pass is small, see ``SMALL_PASS``. ``cohort.agents``: as
    many as ``cohort.memory_gb`` holds, by one trial pass. Where agents cannot train side by side
    it is single, and the log says why if cohort was asked for.
    """
    against = _apart(settings) or obstacle(single)
    if settings.trainer == "cohort" and against:
        log.warning("trainer='cohort': %s; agents train one by one", against)
    positions = settings.local.batch * settings.corpus.max_tokens
    small = positions <= SMALL_PASS.get(single.bench.model.device.type, 0)
    wanted = settings.trainer == "cohort" or (settings.trainer == "auto" and small)
    if against or not wanted:
        return replace(settings, trainer="single")
    budget_bytes = settings.cohort.memory_gb * 1e9
    agents = settings.cohort.agents or demand_of(single.bench, settings).agents_within(budget_bytes)
    return replace(settings, trainer="cohort", cohort=replace(settings.cohort, agents=agents))


def _apart(settings: RunSettings) -> str | None:
    """Why no two agents of a run can share a batch, whatever the model; None where they can."""
    if settings.engine != "in_process":
        return "agents have processes of their own"
    if settings.server.asynchronous:
        return "agents that do not wait for each other have no batch in common"
    return None
