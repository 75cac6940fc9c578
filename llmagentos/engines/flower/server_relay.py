"""In Flower's ServerApp: what lies in the coordinator's folder goes to the nodes, and back."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar

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

PATIENCE_S = 5.0
"""An answer that is longer on its way than this is fetched beside the others."""

LONGEST_REASON = 1000
"""Letters of an agent's reason that are logged."""

LIFETIME_S = 7 * 86400.0
"""After this long Flower gives a message up, and it is sent again."""

LOST = (httpx.HTTPError, RunNotRunningException)
"""What Flower raises where the SuperLink or the run is gone."""

Result = TypeVar("Result")
Bodies = list[bytes | None]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
    """Relay until the coordinator has started another run or has gone."""
    Relay(grid, Path(os.environ[FOLDER])).run()


class Relay:
    """``sent`` is Flower's message id to the name of what lay in ``out``.

    ``late`` has by the same id what is still being fetched.
    """

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.folder = grid, folder
        self.out, self.back = Tray(folder / "out"), Tray(folder / "back")
        self.session = (folder / "session").read_text()
        self.sent: dict[str, str] = {}
        self.late: dict[str, Future[Bodies]] = {}
        self.not_before: dict[str, float] = {}

    @property
    def wanted(self) -> bool:
        """Whether this is the latest run."""
        return (self.folder / "session").read_text() == self.session

    def run(self) -> None:
        """Push and pull until another run takes over; a lost SuperLink ends it with an error."""
        Thread(target=self.beat, daemon=True).start()
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
                self.push_one(name, int(nodes[name.split("-")[0]]))

    def push_one(self, name: str, node: int) -> None:
        """A parcel goes to a node, unless a newer one has taken its place."""
        try:
            body = self.out.read(name)
        except FileNotFoundError:
            return
        message = Message(boxed(body), node, "query", ttl=LIFETIME_S)
        (id_,) = self.grid.push_messages([message])
        self.sent[id_] = name

    def pull(self) -> None:
        """Answers go to the coordinator; what came to nothing is sent again a little later.

        One by one: a single answer is in memory, and what is wrong with it is its agent's alone.
        One that does not come though its node has announced it is fetched on beside the others, and
        what nothing came for yet goes behind them.
        """
        for id_ in [id_ for id_, coming in self.late.items() if coming.done()]:
            self.settle(id_, self.late.pop(id_))
        for id_ in [id_ for id_ in self.sent if id_ not in self.late][:ASKED_AT_ONCE]:
            coming = begun(partial(self.bodies, id_, self.sent[id_]))
            if wait([coming], PATIENCE_S).done:
                self.settle(id_, coming)
            else:
                self.late[id_] = coming

    def settle(self, id_: str, fetched: Future[Bodies]) -> None:
        """What came back for a message is kept; where that is nothing, it is asked after again."""
        name, bodies = self.sent.pop(id_), fetched.result()
        if not bodies:
            self.sent[id_] = name
        for body in bodies:
            self.keep(name, body)

    def bodies(self, id_: str, name: str) -> Bodies:
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


def begun(work: Callable[[], Result]) -> Future[Result]:
    """What comes of work in a thread of its own, which does not outlive the process."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  (raised where the result is asked for)
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


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
