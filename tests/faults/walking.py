"""Agents that walk home in steps, and can be met between two of them."""

import numpy as np

from llmagentos.messages import answer
from tests.coded import Homing, home_of


class Walking(Homing):
    """Each agent takes some steps of plain descent towards a place of its own, as its task says."""

    def update(self, task):
        x = task.vectors["adapter"].copy()
        for _ in range(task.settings["steps"]):
            x = self.step(x, task)
        delta = x - task.vectors["adapter"]
        return answer(task, vectors={"delta": delta}, metrics=self.told(task))

    def step(self, x, task):
        bent = task.vectors.get("linear", np.float32(0))
        pull = task.settings["mu"] * (x - task.vectors["adapter"])
        slope = x - home_of(task.agent) + bent + pull
        return (x - np.float32(task.settings["lr"]) * slope).astype(np.float32)

    def told(self, task):
        steps = float(task.settings["steps"])
        return {"step_weight": steps, "train_loss": steps}
