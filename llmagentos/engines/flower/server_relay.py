"""In Flower's ServerApp: what lies in the coordinator's folder goes to the nodes, and back."""

import json
import os
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import RunNotRunningException

from llmagentos.engines.flower.tray import FOLDER, Tray

POLL_S = 0.5
RETRY_S = 3.0
"""A message that Flower could not deliver is sent again after this long."""

ASKED_AT_ONCE = 16
"""Messages that are asked after in a turn, so that many agents keep Flower no busier."""

LONGEST_REASON = 1000
"""Letters of an agent's reason that are logged."""

LIFETIME_S = 7 * 86400.0
"""After this long Flower gives a message up, and it is sent again."""

LOST = (httpx.HTTPError, RunNotRunningException)
"""What Flower raises where the SuperLink or the run is gone."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
    """Relay until the coordinator has started another run or has gone."""
    Relay(grid, Path(os.environ[FOLDER])).run()


class Relay:
    """``sent`` is Flower's message id to the name of what lies in ``out``."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.folder = grid, folder
        self.out, self.back = Tray(folder / "out"), Tray(folder / "back")
        self.session = (folder / "session").read_text()
        self.sent: dict[str, str] = {}
        self.not_before: dict[str, float] = {}

    @property
    def wanted(self) -> bool:
        """Whether this is the latest run."""
        return (self.folder / "session").read_text() == self.session

    def run(self) -> None:
        """Push and pull until another run takes over; a lost SuperLink ends it with an error."""
        threading.Thread(target=self.beat, daemon=True).start()
        while self.wanted:
            self.push()
            self.pull()
            time.sleep(POLL_S)

    def beat(self) -> None:
        """Show once a second that this process lives, also while it is busy."""
        while self.wanted:
            (self.folder / "beat").touch()
            time.sleep(1)

    def push(self) -> None:
        """Every parcel that is not under way goes to its node, one at a time."""
        nodes = json.loads((self.folder / "nodes.json").read_text())
        for name in set(self.out.names()) - set(self.sent.values()):
            if time.monotonic() >= self.not_before.get(name, 0):
                node = int(nodes[name.split("-")[0]])
                message = Message(boxed(self.out.read(name)), node, "query", ttl=LIFETIME_S)
                (id_,) = self.grid.push_messages([message])
                self.sent[id_] = name

    def pull(self) -> None:
        """Answers go to the coordinator; what came to nothing is sent again a little later.

        One by one: a single answer is in memory, and what is wrong with it is its agent's alone.
        What nothing came for yet goes behind the others.
        """
        for id_ in list(self.sent)[:ASKED_AT_ONCE]:
            name = self.sent.pop(id_)
            bodies = self.bodies(id_, name)
            if not bodies:
                self.sent[id_] = name
            for body in bodies:
                self.keep(name, body)

    def bodies(self, id_: str, name: str) -> list[bytes | None]:
        """What came back for a message: no item yet, a body, or ``None`` for an error of Flower's.

        A reply that is no parcel is an empty body, whatever its agent made of it.
        """
        try:
            return [body_of(reply) for reply in self.grid.pull_messages([id_])]
        except LOST:
            raise
        except Exception as error:  # noqa: BLE001  (an agent chooses what Flower raises)
            print(f"{name}: no parcel: {str(error)[:LONGEST_REASON]!r}", flush=True)
            return [b""]

    def keep(self, name: str, body: bytes | None) -> None:
        """A body lies where the coordinator looks; what has none is sent again."""
        if body is None:
            self.not_before[name] = time.monotonic() + RETRY_S
        else:
            self.back.put(name, body)
            self.out.drop(name)


def body_of(reply: Message) -> bytes | None:
    """The parcel in a reply; none where the reply is an error, which is told."""
    if not reply.has_error():
        return unboxed(reply.content)
    error = reply.error
    print(f"{error.code} {error.reason[:LONGEST_REASON]!r}; sent again", flush=True)
    return None


def boxed(body: bytes) -> RecordDict:
    """Bytes as Flower carries them: one array, which it cuts into chunks."""
    array = Array(np.frombuffer(body, np.uint8))
    return RecordDict({"parcel": ArrayRecord({"body": array})})


def unboxed(content: RecordDict) -> bytes:
    """The bytes that were boxed; some ``Exception`` for anything else."""
    body: bytes = content.array_records["parcel"]["body"].numpy().tobytes()
    return body
