"""What a recipe works with: the model, the agents' rows, and who trains them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import PeftModel

from llmagentos.adapter import Adapter
from llmagentos.corpus import Example, Silo, tokenize_silos
from llmagentos.lm.batches import target_tokens
from llmagentos.lm.lora import adapter_config, attach, initial_vector, layout_of
from llmagentos.lm.models import Base, load_base
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer, Track
from llmagentos.messages import Enrolled, Kind
from llmagentos.recipes.resolve import use_threads
from llmagentos.settings import RunSettings


@dataclass(frozen=True)
class Session:
    """One frozen model with one adapter slot, shared by all agents, and their tokenised silos."""

    settings: RunSettings
    base: Base
    model: PeftModel
    start: Adapter
    silos: Sequence[Silo]
    trainer: LoraTrainer

    @property
    def roster(self) -> dict[str, Enrolled]:
        """What each agent declares: its training rows and their target tokens."""
        return {
            silo.name: Enrolled(len(silo.train), target_tokens(silo.train)) for silo in self.silos
        }

    @property
    def facts(self) -> dict[str, str]:
        """What must not change between a run and its resumption."""
        return {"base": self.base.hash, "corpus": corpus_hash(self.silos)}

    def peft_config(self) -> dict[str, Any]:
        """The published ``adapter_config.json``."""
        return adapter_config(self.model, self.base)
