"""What an agent takes of the memory while many train side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from llmagentos.corpus import Row
from llmagentos.lm.batches import Batch, collate
from llmagentos.lm.dropout import share_of
from llmagentos.lm.head import LARGEST_CHUNK
from llmagentos.lm.quantized import eight_bit_layers
from llmagentos.lm.workbench import Workbench
from llmagentos.settings import RunSettings

PER_VALUE = 4 * 6
"""Bytes for each value of a trained adapter: values, gradient, where it started, two moments, and
the anchor or the linear term that some algorithms add. The gradient of one pass comes while what
the pass keeps goes, and needs no place of its own."""

PER_LOGIT = 4 * 2
"""Bytes for each logit of a chunk: as the head gives it, and as its log softmax."""

HOLES = 0.4
"""Memory of the process that is lost between the tensors of a pass, for each byte that it keeps.

glibc cuts an aligned block out of a larger one and gives the splinters to small blocks; so the hole
that a block leaves is too narrow for the next of its size. Resident memory less live tensors was
0.2 to 0.4 of what passes kept, for layers as wide as those of Llama, Qwen, SmolLM and GPT-2 (135M
to 1B), and up to 0.6 for a model of 8M weights in groups of 0.5 GB and more.
"""


@dataclass(frozen=True)
class Demand:
    """Bytes that agents side by side take at most, beyond the base model."""

    agent: int
    """What every agent adds: its adapter, and what its longest pass keeps."""
    logits: int
    """Those of one agent's pass; a group has a chunk of them at most, see ``LARGEST_CHUNK``."""

    def of(self, agents: int) -> int:
        """What so many agents take."""
        return agents * self.agent + min(agents * self.logits, PER_LOGIT * LARGEST_CHUNK)

    def agents_within(self, budget_bytes: float) -> int:
        """How many agents a budget holds; at least 1."""
        with_chunk = (budget_bytes - PER_LOGIT * LARGEST_CHUNK) // self.agent
        return max(1, int(with_chunk), int(budget_bytes // (self.agent + self.logits)))


def demand_of(bench: Workbench, settings: RunSettings) -> Demand:
    """What agents of a run take, each with its adapter and its longest pass.

    The pass is tried once and its tensors are counted, so the number is the same every time. The
    backward pass has the gradients of a layer's tensors beside them. With gradient checkpointing a
    layer keeps its input, and one layer at a time all the rest; but layers of eight bits hold most
    of it nevertheless, and are counted as without.
    """
    rows, tokens = settings.local.batch, settings.corpus.max_tokens
    config, adapter = bench.score.causal.config.get_text_config(), bench.flat.vector
    kept, layers = pass_bytes(bench, rows, tokens), config.num_hidden_layers
    layer = kept // layers
    if settings.local.gradient_checkpointing and not eight_bit_layers(bench.model):
        kept = layers * rows * tokens * config.hidden_size * adapter.itemsize
    each = PER_VALUE * adapter.numel() + kept + layer + int(HOLES * kept)
    return Demand(each, PER_LOGIT * rows * tokens * config.vocab_size)


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
