"""A federation as Flower's documentation writes it: FedAvg over named tensors, for `engines.py`.

Runs in Flower's own processes. The local training is that of this library, so that what differs is
the carriage and the averaging. A ClientApp has a process for each message, so each loads what
it needs.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from wire import RESULT, told_work

from llmagentos.layout import Layout, Vector
from llmagentos.messages import Task

client, server = ClientApp(), ServerApp()


def as_record(vector: Vector, layout: Layout, named: bool) -> ArrayRecord:
    """The adapter tensor by tensor, as PEFT's state dict has it, or in one array."""
    tensors = layout.split(vector) if named else {"adapter": vector}
    return ArrayRecord({name: Array(np.asarray(x)) for name, x in tensors.items()})


def as_vector(record: ArrayRecord, layout: Layout, named: bool) -> Vector:
    """All tensors in one vector, ``(d,)``."""
    names = layout.names if named else ("adapter",)
    return np.concatenate([record[name].numpy().ravel() for name in names])


class Timed(FedAvg):
    """FedAvg that notes when a round ends."""

    def __init__(self, agents: int) -> None:
        super().__init__(fraction_evaluate=0.0, min_available_nodes=agents, min_train_nodes=agents)
        self.ends: list[float] = []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What FedAvg answers."""
        answers = list(replies)
        failed = [answer.error.reason for answer in answers if answer.has_error()]
        assert not failed, failed
        found = super().aggregate_train(server_round, answers)
        self.ends.append(time.time())
        return found


@client.train()
def train(message: Message, context: Context) -> Message:
    """The adapter after the agent's round."""
    work, agent = told_work(), str(context.node_config["agent"])
    hands = work.hands(agent)
    round_ = int(message.content["config"]["server-round"])
    before = as_vector(message.content["arrays"], hands.layout, work.named)
    plan = work.plan("plain")
    told, adapter = plan.settings["fit"], {"adapter": before}
    task = Task("plain", round_, "fit", agent, adapter, hands.layout, plan.seed, settings=told)
    ((update,),) = hands.trainer.fit([task])
    arrays = as_record(before + update.vectors["delta"], hands.layout, work.named)
    metrics = MetricRecord({"num-examples": update.weight})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@server.main()
def rounds(grid: Grid, _context: Context) -> None:
    """All rounds; the final adapter and the end of every round are left in the folder."""
    work, folder = told_work(), Path(os.environ[RESULT])
    hands, strategy = work.hands(), Timed(work.agents)
    first = as_record(hands.first_state().adapter.vector, hands.layout, work.named)
    final = strategy.start(grid, first, num_rounds=work.rounds, timeout=600).arrays
    with (folder / "part").open("wb") as file:
        np.savez(file, ends=strategy.ends, adapter=as_vector(final, hands.layout, work.named))
    (folder / "part").rename(folder / "found.npz")
