"""What keeps agents from training side by side."""

from typing import Any, cast

from peft import PeftModel
from peft.tuners.lora import Linear
from torch import nn

from llmagentos.lm.lora import lora_layers
from llmagentos.lm.quantized import quantized_kinds
from llmagentos.lm.trainer import LoraTrainer


def obstacle(trainer: LoraTrainer) -> str | None:
    """Why the agents of a trainer have to train one by one, in words; none when nothing does."""
    accelerator = trainer.bench.accelerator
    if accelerator.num_processes > 1:
        return f"an agent has {accelerator.num_processes} processes"
    if accelerator.scaler is not None:
        return "the loss scale of fp16 is one for all of a batch; use bf16"
    if whole := [name for name in trainer.layout.names if name not in trainer.layout.roles]:
        return f"every agent has a {whole[0]} of its own, which no batched product joins"
    return _odd_layer(trainer.bench.model)


def _odd_layer(model: PeftModel) -> str | None:
    head = cast("Any", model.get_base_model()).get_output_embeddings()
    plain = {(Linear, nn.Linear), *quantized_kinds()}
    for name, layer in lora_layers(model).items():
        kind = type(layer.get_base_layer())
        if layer is head:
            return f"{name} is the head, which sees targets only"
        if (type(layer), kind) not in plain:
            return f"{name} is a {kind.__name__}, not a plain linear layer"
    return None
