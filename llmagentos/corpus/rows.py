"""Text to rows of tokens, with what is learnt; masks follow lengths, never the id of padding."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmagentos.corpus.example import Example, Row
from llmagentos.corpus.template import Part, prompt_parts, split_parts, uses_chat_template
from llmagentos.errors import CorpusError
from llmagentos.settings.corpus import CorpusSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[tuple[int, bool]]
"""Ids, and whether each belongs to an answer."""


def prompt_ids(
    example: Example | str, tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> NDArray[np.int32]:
    """``(t,)`` token ids of the prompt; the training row of its example begins with them."""
    example = example if isinstance(example, Example) else Example(example, "")
    chat = uses_chat_template(example, tokenizer, settings)
    tokens = _tokens(prompt_parts(example, tokenizer, settings), tokenizer, chat=chat)
    return np.array([token for token, _ in tokens], np.int32)


def to_row(
    example: Example, tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> tuple[Row | None, bool]:
    """The example in at most ``max_tokens`` tokens, and whether its end was cut.

    It ends with the end of turn, which is learnt. No row where nothing to learn is left.
    """
    chat = uses_chat_template(example, tokenizer, settings)
    tokens = _tokens(split_parts(example, tokenizer, settings), tokenizer, chat=chat)
    if chat:
        _end_with_the_turn(tokens, tokenizer)
    ids = np.array([token for token, _ in tokens], np.int32)
    learn = np.array([learnt or settings.loss_on == "all" for _, learnt in tokens], np.bool_)
    learn[:1] = False
    cut = len(ids) > settings.max_tokens
    ids, learn = ids[: settings.max_tokens], learn[: settings.max_tokens]
    return (Row(ids.copy(), learn.copy()) if learn.any() else None), cut


def pack(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> list[Row]:
    """Plain texts one after the other, cut every ``max_tokens``; only the last row is shorter.

    All is learnt but the first token of a row. A text may see the end of the one before it.
    """
    if not all(example.plain for example in examples):
        raise CorpusError(
            "corpus.packing=True: rows of prompt and response stay apart; unset it, or name a "
            "column of plain text in corpus.text"
        )
    texts = (_plain_tokens([Part(example.response, learn=True)], tokenizer) for example in examples)
    ids = np.array([token for token, _ in chain.from_iterable(texts)], np.int32)
    pieces = np.split(ids, range(settings.max_tokens, len(ids), settings.max_tokens))
    return [
        Row(piece.copy(), np.arange(len(piece)) > 0)
        for piece in pieces
        if len(piece) > 1  # a single token has no target
    ]


def _tokens(parts: Sequence[Part], tokenizer: "PreTrainedTokenizerBase", *, chat: bool) -> Tokens:
    """Part by part, so that a prompt has the same tokens with and without its answer."""
    return _chat_tokens(parts, tokenizer) if chat else _plain_tokens(parts, tokenizer)


def _plain_tokens(parts: Sequence[Part], tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """The opening token if the model has one; every answer is followed by the end of text."""
    end = _end_of_text(tokenizer)
    tokens = [(token, False) for token in _opening(tokenizer)]
    for part in parts:
        tokens += [(token, part.learn) for token in _encode(part.text, tokenizer)]
        tokens += [(end, True)] * part.learn
    return tokens


def _chat_tokens(parts: Sequence[Part], tokenizer: "PreTrainedTokenizerBase") -> Tokens:
    """The template's own tokens; every answer is learnt up to its end of turn."""
    special = _special(tokenizer)
    tokens: Tokens = []
    for part in parts:
        ids = _encode(part.text, tokenizer)
        ends = [place for place, token in enumerate(ids, 1) if token in special]
        answer = (ends[-1] if ends else len(ids)) if part.learn else 0
        tokens += [(token, place < answer) for place, token in enumerate(ids)]
    return tokens


def _end_with_the_turn(tokens: Tokens, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Leave nothing behind the last answer; where the template does not end it, end the text."""
    while tokens and not tokens[-1][1]:
        tokens.pop()
    if tokens and tokens[-1][0] not in _special(tokenizer):
        tokens.append((_end_of_text(tokenizer), True))


def _special(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}


def _end_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise CorpusError(
            "corpus.template: the tokenizer names no end of text (eos_token), so the model could "
            "never learn to stop; set it in tokenizer_config.json"
        )
    return end


def _opening(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that the tokenizer sets before a text."""
    ids = list(tokenizer("").input_ids)
    end = tokenizer.eos_token_id
    return ids[:-1] if ids[-1:] == [end] and end != tokenizer.bos_token_id else ids


def _encode(text: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
