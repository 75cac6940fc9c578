"""An organisation's desk, ready for tasks: its model, its rows, its keys and its journal."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from llmagentos.agent import AgentJournal, AgentSettings, Desk, Party
from llmagentos.agent.desk import largest_task
from llmagentos.corpus import Example, Silo, tokenize_silos
from llmagentos.engines import MemoryByRun
from llmagentos.errors import ModelError
from llmagentos.identity import key_of, read_key
from llmagentos.lm.lora import adapter_config, attach, layout_of
from llmagentos.lm.models import load_base
from llmagentos.lm.positions import check_longest
from llmagentos.lm.precision import accelerator_for
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.recipes.personal_folders import Published, PublishingTrainer
from llmagentos.recipes.terms import read_terms
from llmagentos.settings import CorpusSettings, ModelSettings, Terms
from llmagentos.settings.checks import require


@dataclass(frozen=True)
class Bench:
    """What an agent trains with, and on, and what is told of the adapters that come of it."""

    trainer: LoraTrainer
    silo: Silo
    published: Published


def open_bench(settings: AgentSettings, terms: Terms, examples: Sequence[Example]) -> Bench:
    """The base model of the terms with an adapter on it, and the agent's rows in tokens.

    Raises ``ModelError`` where the weights are not those of the terms, and ``SettingError`` where
    rows may be longer than the model reads, or the loss of fewer would be told than was agreed to.
    """
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    model = own_model(settings, terms)
    base = load_base(model, terms.seed)
    if base.hash != terms.base:
        raise ModelError(
            f"model.source={model.source!r} has weights {base.hash[:12]}, the terms want "
            f"{terms.base[:12]}; set --model to a copy of {terms.model.source}"
        )
    check_longest(base.model, "rows.max_tokens", terms.rows.max_tokens)
    rows = CorpusSettings(**asdict(terms.rows))
    (silo,) = tokenize_silos({settings.name: examples}, base.tokenizer, rows, terms.seed)
    held_out, least = len(silo.held_out), settings.limits.held_out
    remedy = f"the corpus has {held_out} held-out rows; add text, or agree to fewer"
    require(held_out >= least, "limits.held_out", least, remedy)
    peft = attach(base, terms.lora, terms.seed)
    accelerator = accelerator_for(terms.precision, peft.device)
    silos = {settings.name: silo}
    trainer = LoraTrainer(peft, layout_of(peft), silos, accelerator=accelerator)
    published = Published(adapter_config(peft, base), model.source, terms.seed)
    return Bench(trainer, silo, published)


def own_model(settings: AgentSettings, terms: Terms) -> ModelSettings:
    """The base model of the terms, as and where this agent has it."""
    model = replace(terms.model, device=settings.device)
    model = replace(model, source=settings.model) if settings.model else model
    return replace(model, quantize=settings.quantize) if settings.quantize else model


@contextmanager
def open_desk(settings: AgentSettings, examples: Sequence[Example]) -> Iterator[Desk]:
    """The desk; one process at a time may have it.

    Where the agent's home is made for it, only its owner can look into it.
    """
    terms = read_terms(Path(settings.terms))
    key, coordinator = read_key(Path(settings.key)), key_of(terms.coordinator)
    home = Path(settings.home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with AgentJournal(home / "journal") as journal:
        bench = open_bench(settings, terms, examples)
        layout, residual_rank = bench.trainer.layout, settings.limits.residual_rank
        largest = largest_task(layout, residual_rank)
        party = Party(settings.name, key, coordinator, terms.base, layout, largest)
        remembering = MemoryByRun(bench.trainer, home / "memory", residual_rank)
        trainer = PublishingTrainer(remembering, home, bench.published)
        yield Desk(party, settings.limits, journal, trainer, len(bench.silo.train))
