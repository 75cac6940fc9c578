"""What a run would do, told before it does it."""

from collections.abc import Mapping

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from llmagentos.codecs import codec_of
from llmagentos.corpus import heterogeneity
from llmagentos.lm.head import LARGEST_CHUNK
from llmagentos.recipes.command import flat_settings
from llmagentos.recipes.session import Session
from llmagentos.report import silo_table

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
    agents = max(1, round(settings.server.fraction * len(session.silos)))
    steps = settings.rounds * settings.local.steps * agents
    body = codec_of(settings.codec).body_bytes(values)
    total = sum(p.numel() for p in session.base.model.parameters())
    return {
        "trainable parameters": f"{values:,} of {total:,} ({values / total:.2%})",
        "agents in a round": f"{agents} of {len(session.silos)}",
        "optimizer steps in all": f"{steps:,}",
        "bytes a round": f"{body * agents:,} up, {4 * values * agents:,} down",
        "memory, about": f"{memory_bytes(session) / 1e9:.1f} GB",
        "base model": f"{settings.model.source} ({session.base.hash[:12]})",
    }


def memory_bytes(session: Session) -> int:
    """A rough peak: libraries, weights, adapter and optimizer, activations and logits of a pass.

    A layer keeps 34 values of the hidden size a token, half of them of two bytes in 16-bit
    training, and the attention scores: Korthikanti et al. 2022, arXiv:2205.05198, section 4.1.
    """
    settings = session.settings
    config = session.base.model.config.get_text_config()
    weights = sum(p.numel() * p.element_size() for p in session.base.model.parameters())
    tokens = settings.local.batch * settings.corpus.max_tokens
    scores = 5 * config.num_attention_heads * settings.corpus.max_tokens
    layers: int = 1 if settings.local.gradient_checkpointing else config.num_hidden_layers
    half = settings.model.dtype != "float32" or settings.local.precision != "no"
    activations: int = layers * tokens * (34 * config.hidden_size + scores) * (1 if half else 2)
    logits: int = 2 * 4 * min(tokens * config.vocab_size, LARGEST_CHUNK)
    return LIBRARIES_BYTES + weights + 5 * 4 * session.layout.size + activations + logits


def _pairs(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table
