"""What AdamW has learnt of its gradients, for agents that go on with it in their next round."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llmagentos.adapter import refit
from llmagentos.layout import Layout, Vector
from llmagentos.messages import MOMENTS, Task

MEANS = {"exp_avg": f"{MOMENTS}.m", "exp_avg_sq": f"{MOMENTS}.v"}
"""What torch calls the means of gradients and of their squares, and how they are called in vectors:
``(d,)`` float32 each, in the layout of the task."""

STEPS = f"{MOMENTS}.steps"
"""How many steps they are the means of, ``(1,)`` float32."""


def take_up(
    optimizer: torch.optim.Optimizer, tasks: Sequence[Task], layout: Layout, part: slice
) -> None:
    """Each group of the optimizer, one a task, goes on with the moments that its task brings."""
    for group, task in zip(optimizer.param_groups, tasks, strict=True):
        if STEPS in task.vectors:
            (row,) = group["params"]
            optimizer.state[row] = {
                "step": torch.tensor(float(task.vectors[STEPS][0]), device=row.device),
                **{
                    name: torch.tensor(
                        refit(task.vectors[moment], task.layout, layout)[part], device=row.device
                    )
                    for name, moment in MEANS.items()
                },
            }


def left_by(
    optimizer: torch.optim.Optimizer, tasks: Sequence[Task], layout: Layout, part: slice
) -> list[dict[str, Vector]]:
    """The moments after the last step, for each task that wants them kept."""
    rows = [group["params"][0] for group in optimizer.param_groups]
    return [
        _vectors(optimizer.state[row], task, layout, part) if wanted(task) else {}
        for row, task in zip(rows, tasks, strict=True)
    ]


def wanted(task: Task) -> bool:
    """Whether a task asks for its moments to be kept."""
    return bool(task.settings.get("keep_moments"))


def _vectors(state: Any, task: Task, layout: Layout, part: slice) -> dict[str, Vector]:
    vectors = {STEPS: np.array([float(state["step"])], np.float32)}
    for name, moment in MEANS.items():
        whole = np.zeros(layout.size, np.float32)
        whole[part] = state[name].cpu().numpy()
        vectors[moment] = refit(whole, layout, task.layout)
    return vectors
