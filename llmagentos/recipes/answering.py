"""What the base model answers, and what it answers with an adapter."""

from pathlib import Path

from llmagentos.corpus import prompt_ids
from llmagentos.lm.answer import answer
from llmagentos.lm.lora import attach, layout_of, load_vector
from llmagentos.lm.model_adapter import adapter_settings, adapter_vector
from llmagentos.lm.models import load_base
from llmagentos.settings import RunSettings


def both_answers(
    settings: RunSettings, adapter: Path, prompt: str, max_tokens: int
) -> tuple[str, str]:
    """The greedy answers without and with the adapter, at most ``max_tokens`` long.

    The prompt is wrapped as the rows of a run with these settings are.
    """
    lora = adapter_settings(adapter)
    base = load_base(settings.model, settings.seed)
    ids = prompt_ids(prompt, base.tokenizer, settings.corpus)
    without = answer(base.model, base.tokenizer, ids, max_tokens)
    model = attach(base, lora, settings.seed)
    load_vector(model, adapter_vector(adapter, layout_of(model)))
    return without, answer(model, base.tokenizer, ids, max_tokens)
