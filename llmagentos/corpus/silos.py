"""From settings to examples per agent, and from examples to rows of tokens."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from llmagentos.corpus.columns import read_examples
from llmagentos.corpus.example import Example, Silo
from llmagentos.corpus.files import HUB
from llmagentos.corpus.named import NAMED
from llmagentos.corpus.partition import LEAST_ROWS, deal, distinct
from llmagentos.corpus.rows import pack, to_row
from llmagentos.errors import CorpusError
from llmagentos.files import expanded
from llmagentos.seeds import generator
from llmagentos.settings.corpus import CorpusSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def read_silos(settings: CorpusSettings, seed: int) -> dict[str, list[Example]]:
    """Agent name to its examples, in the order of the file, repeated ones kept once.

    Needs no model. Raises ``CorpusError`` with file or setting and remedy.
    """
    if settings.agents:
        silos = {name: read_examples(path, settings) for name, path in settings.agents.items()}
    else:
        silos = _deal_one(settings, seed)
    kept = {name: distinct(name, examples) for name, examples in silos.items()}
    for name, examples in kept.items():
        remedy = f"give it more text; of its {len(silos[name])} rows, repeated ones count once"
        _need_rows(name, len(examples), remedy)
    _tell_shared(kept, "corpus.agents" if settings.agents else "corpus.partition")
    return kept


def _tell_shared(silos: Mapping[str, Sequence[Example]], setting: str) -> None:
    """Log how many examples several agents have, since that makes held-out losses look low."""
    owners = Counter(example for examples in silos.values() for example in examples)
    shared = sum(count > 1 for count in owners.values())
    if shared:
        log.warning(
            "%s: %d rows are in the text of several agents; what one of them holds out another may "
            "train on, so held-out losses will look too low",
            setting,
            shared,
        )


def _deal_one(settings: CorpusSettings, seed: int) -> dict[str, list[Example]]:
    corpus = NAMED.get(settings.source)
    if corpus is None:
        _check_source(settings.source)
        return deal(read_examples(settings.source, settings), settings.partition, (), seed)
    column = settings.partition.column
    if column not in {None, corpus.column}:
        raise CorpusError(
            f"corpus.partition.column={column!r}: {settings.source} is dealt out by "
            f"{corpus.column!r}; leave the setting out"
        )
    return deal(corpus.read(), settings.partition, corpus.own, seed)


def _check_source(source: str) -> None:
    """Raise ``CorpusError`` for what is neither there nor a named corpus."""
    if not (source.startswith(HUB) or expanded(source).exists()):
        near = get_close_matches(source, NAMED, 1)
        hint = f"did you mean {near[0]}?" if near else "is the path relative to another folder?"
        known = ", ".join(NAMED)
        raise CorpusError(
            f"corpus.source={source!r}: no such file or folder, nor one of {known}; {hint}"
        )


def tokenize_silos(
    examples: Mapping[str, Sequence[Example]],
    tokenizer: "PreTrainedTokenizerBase",
    settings: CorpusSettings,
    seed: int,
) -> list[Silo]:
    """Every agent's rows, split into training and held out.

    The split depends on the seed, the agent's name and its examples only.
    Raises ``CorpusError`` for an agent that is left without a row on either side.
    """
    return [_silo(name, rows, tokenizer, settings, seed) for name, rows in examples.items()]


def split(
    examples: Sequence[Example], name: str, settings: CorpusSettings, seed: int
) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples in an order drawn for the agent; at least one of each."""
    kept = list(dict.fromkeys(examples))
    _need_rows(name, len(kept), "give it more text")
    order = generator(seed, "split", name).permutation(len(kept))[: settings.max_rows]
    drawn = [kept[i] for i in order]
    held_out = min(max(1, round(settings.held_out * len(drawn))), len(drawn) - 1)
    return drawn[held_out:], drawn[:held_out]


def _silo(
    name: str,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerBase",
    settings: CorpusSettings,
    seed: int,
) -> Silo:
    train, held_out = split(examples, name, settings, seed)
    if settings.packing:
        return _packed_silo(name, (train, held_out), tokenizer, settings)
    made = {example: to_row(example, tokenizer, settings) for example in (*train, *held_out)}
    rows = {example: row for example, (row, _) in made.items() if row is not None}
    read = [example for example in held_out if example in rows]
    held = {rows[example].content for example in read}
    learnt = [example for example in train if example in rows and rows[example].content not in held]
    _need_both(name, learnt, read, settings)
    return Silo(
        name,
        train=tuple(rows[example] for example in learnt),
        held_out=tuple(rows[example] for example in read),
        sample=read[0],
        dropped=len(made) - len(learnt) - len(read),
        cut=sum(made[example][1] for example in (*learnt, *read)),
    )


def _packed_silo(
    name: str,
    parts: tuple[Sequence[Example], Sequence[Example]],
    tokenizer: "PreTrainedTokenizerBase",
    settings: CorpusSettings,
) -> Silo:
    train, held_out = (pack(part, tokenizer, settings) for part in parts)
    held = {row.content for row in held_out}
    learnt = [row for row in train if row.content not in held]
    _need_both(name, learnt, held_out, settings)
    dropped = len(train) - len(learnt)
    return Silo(name, tuple(learnt), tuple(held_out), parts[1][0], dropped)


def _need_both(
    name: str, train: Sequence[object], held_out: Sequence[object], settings: CorpusSettings
) -> None:
    """Raise ``CorpusError`` for an agent that has nothing to train on, or nothing held out."""
    remedy = (
        f"raise corpus.max_tokens={settings.max_tokens}, or give it more text; answers that begin "
        "behind it do not count, nor do rows that are the same as a held-out one up to it"
    )
    _need_rows(name, min(1, len(train)) + min(1, len(held_out)), remedy)


def _need_rows(name: str, count: int, remedy: str) -> None:
    if count < LEAST_ROWS:
        raise CorpusError(
            f"agent {name!r} has {count} usable rows; needs one to train on and one to hold out: "
            f"{remedy}"
        )
