"""Where the agents' private text comes from and how it becomes training rows."""

from dataclasses import dataclass, field
from typing import Literal

from llmagentos.fields import is_name
from llmagentos.settings.checks import require


@dataclass(frozen=True)
class PartitionSettings:
    """How one corpus is dealt out to agents; unused where ``corpus.agents`` names files."""

    by: Literal["field", "iid", "dirichlet", "quantity"] = "field"
    """A silo per value of a field, alike, skewed by a Dirichlet draw over a field, or uneven."""
    column: str | None = None
    """The field that ``field`` and ``dirichlet`` read: by default the name of the file, and a named
    corpus has its own (chapter, sector, role, organisation)."""
    groups: list[str] = field(default_factory=list)
    """Values of the field whose rows are used, all by default; with ``by: field`` each is an agent,
    by default the four that a named corpus starts from, then the largest, ``agents`` in all."""
    agents: int = 4
    """Number of agents, where ``groups`` does not say."""
    alpha: float = 0.5
    """Concentration of the Dirichlet draw over labels or sizes; small is skewed
    (Yurochkin et al. 2019, arXiv:1905.12022)."""

    def __post_init__(self) -> None:
        require(self.agents >= 1, "corpus.partition.agents", self.agents, "needs at least 1")
        require(self.alpha > 0, "corpus.partition.alpha", self.alpha, "needs to be above 0")


@dataclass(frozen=True)
class CorpusSettings:
    """The agents' private text."""

    source: str = "icd10"
    """A named corpus (icd10, naics, shakespeare, invented), a file or folder (jsonl, csv, tsv,
    parquet, txt with a row a line), a ``datasets`` folder, or ``hub:NAME``; dealt out as
    ``partition`` says."""
    agents: dict[str, str] = field(default_factory=dict)
    """Agent name to its own file or folder; instead of ``source`` and ``partition``."""
    partition: PartitionSettings = PartitionSettings()
    """How one corpus is dealt out to agents."""
    text: str | None = None
    """Column of plain text; columns are recognised by their usual names unless given."""
    prompt: str | None = None
    """Column of the prompt."""
    response: str | None = None
    """Column of the response."""
    messages: str | None = None
    """Column of chat messages: a list of ``{role, content}``."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """``chat`` wraps rows by the tokenizer's chat template, ``plain`` joins prompt and response;
    ``auto`` is chat where the tokenizer has a template and the rows are not plain text."""
    loss_on: Literal["response", "all"] = "response"
    """Tokens that are learnt: the responses only, or every token."""
    max_tokens: int = 80
    """Longest row in tokens; longer ones are cut at the end."""
    packing: bool = False
    """Join rows of plain text up to ``max_tokens``, so that no token is padding or cut."""
    held_out: float = 0.1
    """Share of each silo that is kept out of training, at least one row."""
    max_rows: int | None = None
    """Rows drawn from each silo; all unless given."""

    def __post_init__(self) -> None:
        require(self.max_tokens >= 8, "corpus.max_tokens", self.max_tokens, "needs at least 8")
        require(0 < self.held_out < 1, "corpus.held_out", self.held_out, "needs to lie in (0, 1)")
        for name in self.agents:
            remedy = "a name is text that can be printed; put it in quotes"
            require(is_name(name), "corpus.agents", name, remedy)
        rows = self.max_rows
        require(rows is None or rows >= 2, "corpus.max_rows", rows, "needs at least 2")
        kinds = [bool(self.text), bool(self.messages), bool(self.prompt or self.response)]
        remedy = "rows are text, or messages, or prompt and response: set one of these"
        require(sum(kinds) <= 1, "corpus.text", self.text, remedy)
