"""Text becomes rows of tokens: sources, partitions, templates, splits. Needs no torch."""

from llmagentos.corpus.example import Example, Row, Silo
from llmagentos.corpus.heterogeneity import heterogeneity
from llmagentos.corpus.rows import prompt_ids
from llmagentos.corpus.silos import read_silos, tokenize_silos

__all__ = [
    "Example",
    "Row",
    "Silo",
    "heterogeneity",
    "prompt_ids",
    "read_silos",
    "tokenize_silos",
]
