"""Where local training is pulled to, beside where its own text leads."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from llmagentos.adapter import Layout, refit
from llmagentos.messages import Task


class Pull(NamedTuple):
    """A gradient at y becomes ``clip(gradient + mu (y - anchor)) + linear``.

    ``start`` is where y begins, the adapter of the task. ``anchor`` is the same, as in FedProx, Li
    et al. 2020, arXiv:1812.06127, unless the task has another. ``linear`` is what SCAFFOLD and
    FedDyn add, if anything. It comes after the clipping, so that what they learn of an agent is
    its clipped gradient, and the part that leads to the others is not cut.
    All are ``(d,)`` for one agent, and ``(n, d)``, a row each, for agents side by side.
    """

    start: Tensor
    anchor: Tensor
    linear: Tensor | None = None

    @classmethod
    def of(cls, task: Task, layout: Layout, device: torch.device) -> Self:
        """That of one agent, at the rank of the layout."""
        linear, adapter = task.vectors.get("linear"), task.vectors["adapter"]
        start, anchor = (
            torch.tensor(refit(vector, task.layout, layout), device=device)
            for vector in (adapter, task.vectors.get("anchor", adapter))
        )
        return cls(start, anchor, None if linear is None else torch.tensor(linear, device=device))

    @classmethod
    def side_by_side(cls, tasks: Sequence[Task], layout: Layout, device: torch.device) -> Self:
        """Those of several agents, whose tasks all have a linear term or none."""
        each = [cls.of(task, layout, torch.device("cpu")) for task in tasks]
        linear = [pull.linear for pull in each if pull.linear is not None]
        start = torch.stack([pull.start for pull in each]).to(device)
        anchor = torch.stack([pull.anchor for pull in each]).to(device)
        return cls(start, anchor, torch.stack(linear).to(device) if linear else None)
