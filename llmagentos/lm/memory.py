"""What an agent takes of the memory while many train side by side."""

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from llmagentos.corpus import Row
from llmagentos.lm.batches import Batch, collate
from llmagentos.lm.dropout import share_of
from llmagentos.lm.quantized import eight_bit_layers
from llmagentos.lm.workbench import Workbench
from llmagentos.settings import RunSettings

PER_VALUE = 4 * 6
"""Bytes for each value of a trained adapter: values, gradient, where it started, two moments, and
the gradient of one backward pass."""


def agents_within(budget_bytes: float, each_bytes: int) -> int:
    """How many agents that take so much train side by side in a budget; at least 1.

    The budget is for what every agent adds; the base model and the logits of a chunk are there
    with one agent too.
    """
    return max(1, int(budget_bytes // each_bytes))


def agent_bytes(bench: Workbench, settings: RunSettings) -> int:
    """What one more agent adds: its adapter, and what its longest pass keeps.

    The pass is tried once and its tensors are counted, so the number is the same every time. With
    gradient checkpointing a layer keeps its input, and one layer at a time all the rest; but layers
    of eight bits hold most of it nevertheless, and are counted as without.
    """
    rows, tokens = settings.local.batch, settings.corpus.max_tokens
    kept, adapter = pass_bytes(bench, rows, tokens), bench.flat.vector
    if settings.local.gradient_checkpointing and not eight_bit_layers(bench.model):
        config = bench.score.causal.config.get_text_config()
        inputs = rows * tokens * config.hidden_size * adapter.itemsize
        kept = kept // config.num_hidden_layers + config.num_hidden_layers * inputs
    return PER_VALUE * adapter.numel() + kept


def pass_bytes(bench: Workbench, rows: int, tokens: int) -> int:
    """What a forward pass of one agent keeps for its backward pass, the model's weights apart."""
    row = Row(np.zeros(tokens, np.int32), np.arange(tokens) > 0)
    bench.draws.expect([share_of([row] * rows, 0)])
    with bench.training(gradient_checkpointing=False):
        kept = _kept(bench, collate([row] * rows, bench.flat.vector.device))
    for lasting in (*bench.model.parameters(), *bench.model.buffers()):
        kept.pop(_place(lasting), None)
    return sum(kept.values())


def _kept(bench: Workbench, batch: Batch) -> dict[int, int]:
    """The place and the bytes of all memory that a pass keeps."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    def note_input(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        note(inputs[0])

    held = [each.register_forward_pre_hook(note_input) for each in eight_bit_layers(bench.model)]
    with saved_tensors_hooks(note, lambda tensor: tensor), bench.accelerator.autocast():
        alive = bench.score(batch)
    for handle in held:
        handle.remove()
    assert alive.requires_grad, "a pass that trains nothing keeps nothing"
    return kept


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
