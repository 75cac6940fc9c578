"""Rounds of Flower's simulation over Ray, whose clients load model and Trainer every round.

    python benchmarks/flower_round.py WORK NAME ROUNDS CLIENTS_AT_A_TIME

As Flower's examples for language models do it. Runs in Flower's environment, imports nothing of
ours, leaves NAME.safetensors and ends with a line of JSON. `round.py` has written WORK.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import flwr
import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from safetensors.torch import save_file
from trainer_clients import build, first_adapter, fit, quieten

WORK, NAME, (ROUNDS, AT_A_TIME) = Path(sys.argv[1]), sys.argv[2], map(int, sys.argv[3:])
SETTINGS = json.loads((WORK / "work.json").read_text())


class Timed(FedAvg):
    """FedAvg that notes when a round ends, and the mean of its clients' losses."""

    def __init__(self) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.ends: list[float] = []
        self.losses: list[float] = []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What FedAvg answers."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        assert metrics is not None, "no client answered"
        self.losses.append(float(metrics["train_loss"]))
        self.ends.append(time.time())
        return arrays, metrics


def train(message: Message, context: Context) -> Message:
    """A client's round: load model and adapter, train, answer the adapter."""
    quieten()
    rows = np.load(WORK / "rows.npy")[int(context.node_config["partition-id"])]
    adapter = message.content["arrays"].to_torch_state_dict()
    round_ = message.content["config"]["server-round"] - 1
    after, loss = fit(build(WORK), adapter, rows[round_], SETTINGS["lr"])
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(rows)})
    return Message(RecordDict({"arrays": ArrayRecord(after), "metrics": metrics}), reply_to=message)


def main() -> None:
    """Run the rounds."""
    strategy, server, client = Timed(), ServerApp(), ClientApp()
    client.train()(train)

    @server.main()
    def rounds(grid: Grid, _context: Context) -> None:
        first = ArrayRecord(first_adapter(WORK))
        final = strategy.start(grid, first, num_rounds=ROUNDS).arrays
        save_file(final.to_torch_state_dict(), WORK / f"{NAME}.safetensors")

    cores = len(os.sched_getaffinity(0))
    resources: dict[str, int | float | str | bytes | bool | list[int]] = {
        "num_cpus": max(1, cores // AT_A_TIME),
        "num_gpus": 0.0,
    }
    run_simulation(
        server, client, SETTINGS["agents"], backend_config={"client_resources": resources}
    )  # type: ignore[dict-item]
    found = {"ends": strategy.ends, "losses": strategy.losses, "version": flwr.__version__}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
