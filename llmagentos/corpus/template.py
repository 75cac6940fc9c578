"""How an example reads in one string of text, and which parts of it are learnt."""

from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError

from llmagentos.corpus.example import Example
from llmagentos.errors import CorpusError
from llmagentos.settings.corpus import CorpusSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Part(NamedTuple):
    """A piece of the text; ``learn`` marks an answer with its end of turn."""

    text: str
    learn: bool


def prompt_parts(
    example: Example, tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> list[Part]:
    """All before the last answer, as in training; of a plain text, the first half of its words."""
    if example.plain:
        words = example.response.split()
        return [Part(" ".join(words[: (len(words) + 1) // 2]), learn=False)]
    return split_parts(example, tokenizer, settings)[:-1]


def split_parts(
    example: Example, tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> list[Part]:
    """The example as consecutive parts; the last is learnt.

    Raises ``CorpusError`` with file and line for a chat that the template does not allow.
    """
    if not uses_chat_template(example, tokenizer, settings):
        return _plain_parts(example)
    try:
        return _chat_parts(example, tokenizer)
    except TemplateError as error:
        raise CorpusError(
            f"{example.where or 'corpus.template'}: the tokenizer's chat template refuses the chat "
            f"that asks {example.prompt[:40]!r} ({error}); change its turns, or use "
            "corpus.template=plain"
        ) from error


def uses_chat_template(
    example: Example, tokenizer: "PreTrainedTokenizerBase", settings: CorpusSettings
) -> bool:
    """``auto`` is chat where the tokenizer has a template and the example is not plain text."""
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if settings.template == "chat" and not has_template:
        raise CorpusError(
            "corpus.template='chat': the tokenizer of this model has no chat template; "
            "use plain, or an instruction-tuned model"
        )
    if settings.template == "chat" and example.plain:
        raise CorpusError(
            "corpus.template='chat': plain text has no turns; use auto or plain, or set "
            "corpus.prompt and corpus.response"
        )
    return has_template and not example.plain and settings.template != "plain"


def _plain_parts(example: Example) -> list[Part]:
    """Every turn on its own lines, without the names of the roles."""
    if example.plain:
        return [Part(example.response, learn=True)]
    turns = _turns(example)
    return [
        Part(content, learn=True) if role == "assistant" else Part(f"{content}\n", learn=False)
        for role, content in turns
    ]


def _chat_parts(example: Example, tokenizer: "PreTrainedTokenizerBase") -> list[Part]:
    """The rendered chat, cut where the model begins to answer and where its turn has ended.

    Rendering the turns before an answer with the invitation to answer, and then with the answer,
    shows both places without knowing the template. A greeting that opens the chat answers nothing
    and is not learnt; no part where there is no other answer.
    """
    turns = _turns(example)
    text = _render(turns, tokenizer)
    parts, end = [], 0
    for number, (role, _) in enumerate(turns):
        if role != "assistant" or number == 0:
            continue
        asked = _render(turns[:number], tokenizer, ask=True)
        answered = _render(turns[: number + 1], tokenizer)
        if not (text.startswith(asked) and text.startswith(answered)):
            raise CorpusError(
                "corpus.template: the tokenizer's chat template writes a turn differently once "
                "others follow, so its answers cannot be told apart; use corpus.template=plain"
            )
        parts.append(Part(text[end : len(asked)], learn=False))
        parts.append(Part(text[len(asked) : len(answered)], learn=True))
        end = len(answered)
    return parts


def _turns(example: Example) -> tuple[tuple[str, str], ...]:
    """(role, content); the last is the answer."""
    return example.turns or (("user", example.prompt), ("assistant", example.response))


def _render(
    turns: tuple[tuple[str, str], ...], tokenizer: "PreTrainedTokenizerBase", *, ask: bool = False
) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    assert isinstance(text, str)
    return text
