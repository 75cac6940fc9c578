"""What a run would do, told before it does it."""

from collections.abc import Mapping
from statistics import mean

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from llmagentos.aggregation import METHODS, aggregated
from llmagentos.codecs import codec_of
from llmagentos.corpus import heterogeneity
from llmagentos.lm.memory import demand_of
from llmagentos.lm.trainer import LoraTrainer
from llmagentos.recipes.command import flat_settings
from llmagentos.recipes.session import Session
from llmagentos.report import silo_table
from llmagentos.settings import RunSettings
from llmagentos.strategies import strategy_of

LIBRARIES_BYTES = 500_000_000
"""What torch, transformers and peft take before a model is loaded."""


def plan_tables(session: Session) -> Group:
    """The silos, what is trained and sent, the memory that it takes, and every setting."""
    return Group(
        silo_table(heterogeneity(session.silos)),
        _pairs("Plan", estimates(session)),
        _pairs("Settings", {k: str(v) for k, v in flat_settings(session.settings).items()}),
    )


def estimates(session: Session) -> dict[str, str]:
    """Sizes and counts of the run, by what they are."""
    settings, values = session.settings, session.layout.size
    agents = agents_in_round(session)
    strategy = aggregated(strategy_of(settings.server), settings)
    each = mean(steps_of(silo.name, settings) for silo in session.silos)
    steps = round(settings.rounds * each * agents)
    sent = METHODS[settings.aggregation].values_up(session.layout, 1)
    up = codec_of(settings.codec).body_bytes(sent) * (1 + len(strategy.told.get("beside", ())))
    down = 4 * values * len(strategy.dispatch(session.first_state(), ""))
    total = session.base.model.num_parameters()
    return {
        "trainable parameters": f"{values:,} of {total:,} ({values / total:.2%})",
        "agents in a round": f"{agents} of {len(session.silos)}",
        "optimizer steps in all": f"{steps:,}",
        "bytes of training a round": f"{up * agents:,} up, {down * agents:,} down",
        "memory, about": f"{memory_bytes(session) / 1e9:.1f} GB",
        "base model": f"{settings.model.source} ({session.base.hash[:12]})",
    }


def steps_of(agent: str, settings: RunSettings) -> int:
    """Optimizer steps of an agent in a round, those of an adapter of its own among them."""
    shared = settings.local.steps_of(agent)
    return shared + settings.personal.steps_beside(shared)


def agents_in_round(session: Session) -> int:
    """How many agents train in a round."""
    return session.settings.server.updates(len(session.silos))


def memory_bytes(session: Session) -> int:
    """A rough peak: libraries, weights, and what the agents that train side by side take."""
    settings = session.settings
    weights = sum(p.numel() * p.element_size() for p in session.base.model.parameters())
    beside = min(settings.cohort.agents or 1, agents_in_round(session))
    trainer = session.trainer
    single = trainer if isinstance(trainer, LoraTrainer) else trainer.one_by_one
    return LIBRARIES_BYTES + weights + demand_of(single.bench, settings).of(beside)


def _pairs(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table
