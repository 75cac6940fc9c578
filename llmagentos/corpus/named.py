"""The corpora that a setting calls by name."""

from collections.abc import Callable
from dataclasses import dataclass

from llmagentos.corpus import icd10, invented, naics, shakespeare
from llmagentos.corpus.example import Example


@dataclass(frozen=True)
class NamedCorpus:
    """A corpus with a natural field."""

    read: Callable[[], list[Example]]
    column: str
    """What the groups of its examples are."""
    own: tuple[str, ...]
    """The groups that become agents first where the settings name none."""


NAMED = {
    "icd10": NamedCorpus(icd10.read, "chapter", icd10.DEPARTMENTS),
    "naics": NamedCorpus(naics.read, "sector", naics.FOUR_SECTORS),
    "shakespeare": NamedCorpus(shakespeare.read, "role", shakespeare.FOUR_ROLES),
    "invented": NamedCorpus(invented.read, "organisation", invented.ORGANISATIONS),
}
