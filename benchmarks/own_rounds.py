"""Rounds of this library in one process, ending with a line of JSON.

    python benchmarks/own_rounds.py WORK single | cohort ROUNDS THREADS

Training and averaging, without a journal. WORK is a folder that `round.py` has written.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from llmagentos import kernels
from llmagentos.recipes.garbage import without_collection

with without_collection():
    import torch
    from own_agents import Agents, Size, loaded, with_adapter

    from llmagentos.lm.allocator import keep_freed_memory


def main() -> None:
    """Run the rounds."""
    work, way, rounds, threads = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    keep_freed_memory()
    told = json.loads((work / "work.json").read_text())
    size = Size(told["agents"], told["steps"], told["batch"])
    agents = Agents(with_adapter(loaded(work / "base"), size), size, lr=told["lr"])
    train = agents.one_by_one if way == "single" else agents.side_by_side
    adapter, ends, losses = agents.first, [], []
    for round_ in range(1, rounds + 1):
        updates = train(agents.tasks(round_, adapter))
        deltas = [update.vectors["delta"] for update in updates]
        adapter = kernels.average_step(adapter, deltas, [1 / len(deltas)] * len(deltas)).vector
        losses.append(float(np.mean([update.metrics["train_loss"] for update in updates])))
        ends.append(time.time())
    tensors = agents.layout.split(adapter)
    save_file(
        {name: tensor.copy() for name, tensor in tensors.items()}, work / f"{way}.safetensors"
    )
    print(json.dumps({"ends": ends, "losses": losses}))


if __name__ == "__main__":
    main()
