"""Text becomes rows of tokens: sources, partitions, templates, splits. Needs no torch."""

from llmagentos.corpus.example import Example, Row, Silo
from llmagentos.corpus.heterogeneity import heterogeneity
from llmagentos.corpus.rows import prompt_ids
from llmagentos.corpus.silos import read_silos, tokenize_silos
from llmagentos.corpus.template import prompt_text

__all__ = [
    "Example",
    "Row",
    "Silo",
    "heterogeneity",
    "prompt_ids",
    "prompt_text",
    "read_silos",
    "tokenize_silos",
]
