"""A run played again as its journal says that it was."""

from llmagentos.engines import InProcessEngine
from llmagentos.journal import Journal


class Replayed(InProcessEngine):
    """Answers in a given order of agents and rounds."""

    def __init__(self, trainer, roster, order):
        super().__init__(trainer, roster)
        self.order, self.sent = list(order), {}

    def send(self, task):
        self.sent[task.agent, task.round] = task

    def poll(self, timeout_s=None):
        super().send(self.sent.pop(self.order.pop(0)))
        return super().poll()


def arrivals(folder):
    """Agent and round of the updates in a journal, in the order in which they came."""
    with Journal(folder) as journal:
        return journal._rows.execute(
            "SELECT agent, round FROM answers WHERE kind='fit' ORDER BY rowid"
        )
