"""One model with the parts that training and evaluation share, in the same state every time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from peft import PeftModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from llmagentos.corpus import Row
from llmagentos.lm.dropout import Draws
from llmagentos.lm.flat import FlatAdapter
from llmagentos.lm.head import TargetScore
from llmagentos.lm.lora import parameters_by_name
from llmagentos.settings import LocalSettings

OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
}
"""``local.optimizer`` to an optimizer of parameter groups."""


class Workbench:
    """A model whose adapter is bound to one flat vector, its loss, and this process's accelerator.

    The model has to be on its device and in its type already, and is not wrapped afterwards.
    """

    def __init__(self, model: PeftModel, accelerator: Accelerator) -> None:
        self.model = model
        self.accelerator = accelerator
        self.flat = FlatAdapter(parameters_by_name(model))
        self.score = TargetScore(model)
        self.draws = Draws(model)
        scaler = accelerator.scaler
        self._loss_scale = None if scaler is None else scaler.state_dict()
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trainable == self.flat.vector.numel(), "only the adapter may be trainable"

    def check(self) -> None:
        """Assert that the model still computes with the flat vector."""
        self.flat.check(parameters_by_name(self.model))

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's rows of a batch that all processes know."""
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]

    def fresh_optimizer(
        self, settings: LocalSettings, trained: nn.Parameter
    ) -> AcceleratedOptimizer:
        """An optimizer, and a loss scale where there is one, that know of no earlier training."""
        rates = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        optimizer = OPTIMIZERS[settings.optimizer]([{"params": [trained], **rates}])
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.load_state_dict(self._loss_scale)
        return AcceleratedOptimizer(optimizer, device_placement=False, scaler=scaler)

    @contextmanager
    def training(self, gradient_checkpointing: bool) -> Iterator[None]:
        """The model trains inside and evaluates again afterwards."""
        self.model.train()
        self._checkpoint(gradient_checkpointing)
        try:
            yield
        finally:
            self.model.eval()

    def _checkpoint(self, enable: bool) -> None:
        """Whether the backward pass of training computes the layers' activations again.

        Not reentrant, so gradients pass through the frozen embeddings without help.
        """
        causal = cast("Any", self.model.get_base_model())
        again = partial(checkpoint, use_reentrant=False)
        causal._set_gradient_checkpointing(enable, again)  # noqa: SLF001
