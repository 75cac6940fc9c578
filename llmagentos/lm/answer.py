"""What a model answers to a prompt, greedily."""

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmagentos.lm.positions import longest_row


@torch.no_grad()
def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | NDArray[np.int32],
    max_new_tokens: int,
) -> str:
    """The likeliest continuation of a prompt, token by token, up to the end of the turn.

    ``prompt`` is in the form of the training rows: text with its special tokens written out, or
    ``(t,)`` token ids. Only the new text comes back. Dropout is off meanwhile;
    ``with model.disable_adapter()`` asks the base.
    """
    training = model.training
    model.train(False)
    try:
        text = isinstance(prompt, str)
        ids = tokenizer(prompt, add_special_tokens=False).input_ids if text else prompt
        start = torch.as_tensor(ids, dtype=torch.long, device=model.device)[None]
        new = _continue(model, start, _ends(model, tokenizer), max_new_tokens)
    finally:
        model.train(training)
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()


def _continue(
    model: PreTrainedModel | PeftModel, ids: torch.Tensor, ends: set[int], max_new_tokens: int
) -> list[int]:
    """New tokens after ``(1, t)`` prompt ids.

    Each costs one position where the model gives its past back, as recurrent ones do not, and has
    positions left; else all those before it are read again, as far back as positions reach.
    """
    reach = longest_row(model) or ids.shape[1] + max_new_tokens
    new: list[int] = []
    past = None
    while len(new) < max_new_tokens:
        past = past if ids.shape[1] <= reach else None
        read = ids[:, -reach:] if past is None else ids[:, -1:]
        output = model(input_ids=read, past_key_values=past, use_cache=True)
        past, likeliest = output.get("past_key_values"), output.logits[:, -1:].argmax(-1)
        token = int(likeliest)
        if token in ends:
            break
        new.append(token)
        ids = torch.cat([ids, likeliest], dim=1)
    return new


def _ends(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that end an answer: the tokenizer's, and those of the model's generation settings."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return {int(token) for token in [tokenizer.eos_token_id, *listed] if token is not None}
