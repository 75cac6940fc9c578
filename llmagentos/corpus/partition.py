"""One corpus dealt out to agents: by a field, alike, skewed, or in uneven sizes."""

import logging
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from llmagentos.corpus.example import Example
from llmagentos.errors import CorpusError
from llmagentos.fields import LONGEST_TEXT, is_name
from llmagentos.seeds import generator
from llmagentos.settings.corpus import PartitionSettings

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]
LEAST_ROWS = 2
"""Rows that every agent gets: one to train on, one held out."""
DRAWS = 1000
TOLD = 10
"""Groups that are told by name."""


def deal(
    examples: Sequence[Example], settings: PartitionSettings, own: Sequence[str], seed: int
) -> dict[str, list[Example]]:
    """Agent name to its examples; no row goes to two agents.

    By a field, rows of equal text in two groups stay in both. Else repeated examples count once,
    as the first of them, so that nobody holds out what another trains on.
    ``own`` names the groups that a corpus offers first where the settings name none.
    """
    if settings.groups:
        _check_values(examples, settings.groups)
        examples = [example for example in examples if example.group in settings.groups]
    if settings.by == "field":
        return _by_field(examples, settings, own)
    examples = distinct("corpus.partition", examples)
    if len(examples) < LEAST_ROWS * settings.agents:
        raise CorpusError(
            f"corpus.partition.agents={settings.agents}: {len(examples)} rows are too few; "
            f"every agent needs {LEAST_ROWS}, and repeated ones count once"
        )
    shares = _shares(examples, settings, generator(seed, "partition", settings.by))
    digits = len(str(settings.agents))
    names = [f"agent-{number:0{digits}}" for number in range(1, settings.agents + 1)]
    pairs = zip(names, shares, strict=True)
    return {name: [examples[i] for i in np.sort(share)] for name, share in pairs}


def distinct(name: str, examples: Sequence[Example]) -> list[Example]:
    """The examples in their order, repeated ones kept once; the log says how many were repeated."""
    kept = list(dict.fromkeys(examples))
    repeated = len(examples) - len(kept)
    if repeated:
        log.warning("%s: %d of %d rows are repeated and count once", name, repeated, len(examples))
    return kept


def _shares(
    examples: Sequence[Example], settings: PartitionSettings, rng: np.random.Generator
) -> list[Indices]:
    if settings.by == "iid":
        return np.array_split(rng.permutation(len(examples)), settings.agents)
    skewed = settings.by == "dirichlet"
    labels = _labels(examples) if skewed else np.zeros(len(examples), np.int64)
    return dirichlet_shares(labels, settings.agents, settings.alpha, rng)


def dirichlet_shares(
    labels: NDArray[np.int64], agents: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    """Indices per agent; each label's rows are split in proportions drawn from Dir(alpha).

    ``(n,)`` labels. With a single label this is a skew of sizes alone. Drawn again until every
    agent has two rows. Yurochkin et al. 2019, arXiv:1905.12022, section 4; Li et al. 2021,
    arXiv:2102.02079, section 4.
    """
    for _ in range(DRAWS):
        shares: list[list[Indices]] = [[] for _ in range(agents)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            ends = np.cumsum(rng.dirichlet(np.full(agents, alpha)))[:-1] * len(rows)
            for share, part in zip(shares, np.split(rows, ends.astype(np.int64)), strict=True):
                share.append(part)
        dealt = [np.concatenate(share) for share in shares]
        if min(map(len, dealt)) >= LEAST_ROWS:
            return dealt
    raise CorpusError(
        f"corpus.partition.alpha={alpha}: {DRAWS} draws left an agent with fewer than "
        f"{LEAST_ROWS} rows; raise alpha or ask for fewer than {agents} agents"
    )


def _labels(examples: Sequence[Example]) -> NDArray[np.int64]:
    """``(n,)`` the examples' groups as numbers, by name."""
    return np.unique([str(example.group) for example in examples], return_inverse=True)[1]


def _by_field(
    examples: Sequence[Example], settings: PartitionSettings, own: Sequence[str]
) -> dict[str, list[Example]]:
    """The named values; else the corpus's own first and then the largest."""
    found = _first(examples, own)
    values = settings.groups or found[: settings.agents]
    if len(values) < len(settings.groups or range(settings.agents)):
        raise CorpusError(
            f"corpus.partition.agents={settings.agents}: the field has {len(values)} values "
            f"({', '.join(values)}); deal the rows out alike (corpus.partition.by=iid), set "
            "corpus.partition.column to another field, or ask for fewer"
        )
    for value in values:
        _check_name(value, settings.column)
    if not (settings.groups or own):
        _tell_left_out(examples, found[settings.agents :])
    return {value: [row for row in examples if row.group == value] for value in values}


def _tell_left_out(examples: Sequence[Example], values: Sequence[str]) -> None:
    """Which groups of a user's own text are nobody's, and how many rows those have."""
    if values:
        rows = sum(str(example.group) in set(values) for example in examples)
        names = ", ".join(values[:TOLD]) + (", ..." if len(values) > TOLD else "")
        log.warning(
            "corpus.partition.agents leaves out %d rows of %s; raise it, or name those that take "
            "part in corpus.partition.groups",
            rows,
            names,
        )


def _check_name(value: str, column: str | None) -> None:
    """Raise ``CorpusError`` for an agent's name that no message could hold."""
    if not is_name(value):
        place = "rename the file" if column is None else "change it in that column"
        raise CorpusError(
            f"corpus.partition.column={column!r}: {value[:40]!r} cannot be the name of an agent, "
            f"which is at most {LONGEST_TEXT} letters that can be printed; {place}"
        )


def _first(examples: Sequence[Example], own: Sequence[str]) -> list[str]:
    counts = Counter(str(example.group) for example in examples)
    largest = sorted(counts, key=lambda value: (-counts[value], value))
    return [*own, *(value for value in largest if value not in own)]


def _check_values(examples: Sequence[Example], values: Sequence[str]) -> None:
    known = sorted({str(example.group) for example in examples})
    for value in values:
        if value not in known:
            near = get_close_matches(value, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise CorpusError(
                f"corpus.partition.groups: no row has {value!r}; {hint}there are "
                f"{', '.join(known[:30])}"
            )
