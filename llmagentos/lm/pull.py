"""Where local training is pulled to, beside where its own text leads."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from llmagentos.adapter import refit
from llmagentos.layout import Layout
from llmagentos.messages import Task


class Pull(NamedTuple):
    """A gradient at y becomes ``clip(gradient + mu (y - anchor)) + linear``.

    ``start`` is where y begins, the adapter of the task. ``anchor`` is the same, as in FedProx, Li
    et al. 2020, arXiv:1812.06127, unless the task has another. ``linear`` is what SCAFFOLD and
    FedDyn add, if anything. It comes after the clipping, so that what they learn of an agent is
    its clipped gradient, and the part that leads to the others is not cut.
    All are ``(d,)`` for one agent, and ``(n, d)``, a row each, for agents side by side; an anchor
    that is the start is one tensor with it.
    """

    start: Tensor
    anchor: Tensor
    linear: Tensor | None = None

    @classmethod
    def of(cls, task: Task, layout: Layout, device: torch.device) -> Self:
        """That of one agent, at the rank of the layout."""
        rows = cls.side_by_side([task], layout, device)
        linear = None if rows.linear is None else rows.linear[0]
        return cls(rows.start[0], rows.anchor[0], linear)

    @classmethod
    def side_by_side(cls, tasks: Sequence[Task], layout: Layout, device: torch.device) -> Self:
        """Those of several agents.

        All of their tasks have an anchor or none has one, and the same of a linear term.
        """

        def rows(name: str) -> Tensor:
            found = [refit(task.vectors[name], task.layout, layout) for task in tasks]
            return torch.from_numpy(np.stack(found)).to(device)

        start, told = rows("adapter"), tasks[0].vectors
        anchor = rows("anchor") if "anchor" in told else start
        return cls(start, anchor, rows("linear") if "linear" in told else None)
