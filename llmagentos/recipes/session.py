"""What a recipe works with: the model, the agents' rows, and who trains them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState

from llmagentos.adapter import Adapter
from llmagentos.corpus import Example, Silo, tokenize_silos
from llmagentos.federation import Plan
from llmagentos.layout import Layout, Vector
from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.lm.batches import target_tokens
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.lora import adapter_config, attach, layout_of, values_of
from llmagentos.lm.model_adapter import adapter_vector
from llmagentos.lm.models import Base, load_base
from llmagentos.lm.positions import check_longest
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer, Track
from llmagentos.messages import Enrolled, Kind
from llmagentos.recipes.resolve import with_trainer
from llmagentos.settings import LoraSettings, RunSettings
from llmagentos.settings.checks import require
from llmagentos.state import ServerState

if TYPE_CHECKING:
    # When programs run, llmagentos.lm is to import it first, and so with less noise.
    from peft import PeftModel

Examples = Mapping[str, Sequence[Example]]

CENTRAL = "all text in one place"
"""The silo of all training rows together, which only a comparison trains on."""


@dataclass(frozen=True)
class Session:
    """One frozen model with one adapter slot, shared by all agents, and their tokenised silos."""

    settings: RunSettings
    base: Base
    model: "PeftModel"
    layout: Layout
    start: Vector
    """The adapter that no training has touched, ``(d,)``: with it the model is the base."""
    silos: Sequence[Silo]
    trainer: LoraTrainer | CohortTrainer

    @property
    def roster(self) -> dict[str, Enrolled]:
        """What each agent declares: its training rows and their target tokens."""
        return {silo.name: enrolled(silo) for silo in self.silos}

    @property
    def facts(self) -> dict[str, str]:
        """What must not change between a run and its resumption."""
        facts = {
            "base": self.base.hash,
            "list of agents": ", ".join(silo.name for silo in self.silos),
            **{f"text of {silo.name!r}": text_hash(silo) for silo in self.silos},
            "number of processes": str(PartialState().num_processes),
        }
        packed = self.base.quantized_hash
        return facts if packed is None else {**facts, "quantized base": packed}

    def first_state(self) -> ServerState:
        """The adapter that training starts from."""
        folder = self.settings.init_adapter
        vector = self.start if folder is None else adapter_vector(Path(folder), self.layout)
        return ServerState(1, Adapter(self.layout, vector))

    def peft_config(self) -> dict[str, Any]:
        """The published ``adapter_config.json``."""
        return adapter_config(self.model, self.base)


def open_session(settings: RunSettings, examples: Examples, track: Track) -> Session:
    """Load the model, tokenise the silos and bind the adapter; ``settings`` are resolved ones.

    Those of the session say also which trainer it is.
    """
    torch.set_num_threads(settings.threads or 1)
    base = load_base(settings.model, settings.seed)
    check_longest(base.model, "corpus.max_tokens", settings.corpus.max_tokens)
    silos = tokenize_silos(examples, base.tokenizer, settings.corpus, settings.seed)
    model = attach(base, settings.lora, settings.seed)
    layout, start = layout_of(model), values_of(model)
    check_modules(settings.lora, layout)
    accelerator = accelerator_for(settings.local.precision, model.device)
    everyone = {silo.name: silo for silo in [*silos, central_silo(silos)]}
    names = [silo.name for silo in silos]
    remedy = "that is what all agents' text together is called; rename the agent"
    require(CENTRAL not in names, "corpus.partition", CENTRAL, remedy)
    single = LoraTrainer(model, layout, everyone, accelerator=accelerator, track=track)
    settings = with_trainer(settings, single)
    trainer = single if settings.trainer == "single" else side_by_side(single, settings)
    return Session(settings, base, model, layout, start, silos, trainer)


def check_modules(lora: LoraSettings, layout: Layout) -> None:
    """Raise ``SettingError`` for a module of an agent's own that is not adapted."""
    known = sorted({pair.module for pair in layout.pairs})
    for agent, modules in lora.modules.items():
        remedy = f"lora.target_modules adapts {', '.join(known)}; name some of these"
        require(set(modules) <= set(known), f"lora.modules.{agent}", modules, remedy)


def side_by_side(single: LoraTrainer, settings: RunSettings) -> CohortTrainer:
    """A trainer of many agents at a time, in a process that keeps its memory."""
    keep_freed_memory()
    assert settings.cohort.agents is not None
    return CohortTrainer(single, settings.cohort.agents)


def central_silo(silos: Sequence[Silo]) -> Silo:
    """All training rows in one place, as no federation would have them."""
    return replace(silos[0], name=CENTRAL, train=tuple(row for s in silos for row in s.train))


def enrolled(silo: Silo) -> Enrolled:
    """What the agent of a silo declares."""
    return Enrolled(len(silo.train), target_tokens(silo.train))


def text_hash(silo: Silo) -> str:
    """SHA-256 over the rows of a silo, as hex digits."""
    digest = hashlib.sha256(f"{len(silo.train)}\0{len(silo.held_out)}\0".encode())
    for row in (*silo.train, *silo.held_out):
        digest.update(row.ids.tobytes() + row.learn.tobytes() + b"\0")
    return digest.hexdigest()


def plan_of(settings: RunSettings, run: str) -> Plan:
    """The run's plan, with what the agents are told in tasks of each kind."""
    server, steps_by_agent = settings.server, settings.local.steps_by_agent
    return Plan(
        run=run,
        rounds=settings.rounds,
        seed=settings.seed,
        quorum=server.quorum,
        weighting=server.counting,
        spare=server.spare,
        deadline_s=server.deadline_s,
        resend_s=server.resend_s,
        buffer=server.updates(agents=1),
        evaluate_every=settings.evaluation.every,
        settings=_told(settings),
        by_agent={agent: {"steps": steps} for agent, steps in steps_by_agent.items()},
    )


def _told(settings: RunSettings) -> dict[Kind, dict[str, Any]]:
    """The settings of tasks by their kind, see ``Task``."""
    server, evaluation = settings.server, settings.evaluation
    told: dict[Kind, dict[str, Any]] = {
        "fit": {
            **asdict(replace(settings.local, steps_by_agent={})),
            "codec": asdict(settings.codec),
            "privacy": asdict(settings.privacy),
            "strategy": server.strategy,
            "aggregation": settings.aggregation,
            "horizon": settings.schedule_rounds or settings.rounds,
            "weighting": server.counting,
        },
        "measure": {"rows": evaluation.final_rows, "batch": evaluation.batch},
    }
    if evaluation.rows and not server.asynchronous:
        told["evaluate"] = {"rows": evaluation.rows, "batch": evaluation.batch}
    if settings.personal.method != "none":
        for each in told.values():
            each["personal"] = asdict(settings.personal)
    return told
