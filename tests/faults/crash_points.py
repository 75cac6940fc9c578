"""Named moments at which a process is killed, and the processes that are killed there.

A point is a call of the library or of the operating system, and how much of it is done before the
end: nothing, half of what is written, or all of it.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmagentos.agent import AgentJournal, Desk
from llmagentos.engines.flower.tray import Tray
from llmagentos.federation import asking
from llmagentos.journal import Answers, Journal, Records
from llmagentos.memory import AgentMemory
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.strategies import Step
from tests.faults.walking import Walking


@dataclass(frozen=True)
class Point:
    """Calls of ``owner.name`` that ``when`` accepts; ``done`` is what the last one still does."""

    owner: Any
    name: str
    done: Callable[..., object]
    when: Callable[..., bool] = lambda *_, **__: True

    def watch(self, ends: Callable[[], bool]) -> None:
        """This process is killed at the first of the calls of which ``ends`` says so."""
        work = getattr(self.owner, self.name)

        def watched(*args, **kwargs):
            if self.when(*args, **kwargs) and ends():
                self.done(work, *args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*args, **kwargs)

        setattr(self.owner, self.name, watched)


def nothing(work, *args, **kwargs):
    """The call is not made."""


def everything(work, *args, **kwargs):
    """The call is made."""
    work(*args, **kwargs)


def half(work, path, body):
    """Half of the bytes are written."""
    work(path, body[: len(body) // 2])


def arm(point: Point, visit: int) -> None:
    """Kill this process when it reaches the point after ``visit`` times."""
    left = [visit]

    def ends():
        left[0] -= 1
        return left[0] < 0

    point.watch(ends)


def count(points: Mapping[str, Point]) -> Counter[str]:
    """How often this process reaches each point, counted from here on."""
    reached: Counter[str] = Counter()
    for name, point in points.items():
        point.watch(lambda name=name: reached.update([name]))
    return reached


def file_of(handle: int) -> Path:
    return Path(f"/proc/self/fd/{handle}").readlink()


def kept_by_agents(path: Path) -> bool:
    return "agents" in path.parts


def server_body(path, *_) -> bool:
    return Path(path).parent.name == "cas" and not kept_by_agents(Path(path))


def agent_body(path, *_) -> bool:
    return Path(path).parent.name == "cas" and kept_by_agents(Path(path))


def pending(path, *_) -> bool:
    """What agents remember lies in their folders, but for the journals of their desks."""
    return kept_by_agents(Path(path)) and "journal" not in Path(path).parts


def metrics(path, *_) -> bool:
    return not kept_by_agents(path) and (path.parent / "journal").is_dir()


def said(words: str, *, by_agent: bool = False) -> Callable[..., bool]:
    """Whether a statement begins so that the server's journal executes, or an agent's."""

    def spoken(records, statement, *_):
        return statement.startswith(words) and kept_by_agents(records.folder) == by_agent

    return spoken


def _files(what: str, ours: Callable[..., bool]) -> dict[str, Point]:
    """A file on its way to the disk."""

    def bytes_of(handle):
        return file_of(handle).is_file() and ours(file_of(handle))

    def names_of(handle):
        return file_of(handle).is_dir() and ours(file_of(handle) / "name")

    return {
        f"half of {what} in its file": Point(Path, "write_bytes", half, ours),
        f"before the fsync of {what}": Point(os, "fsync", nothing, bytes_of),
        f"after the fsync of {what}, before its rename": Point(os, "replace", nothing, ours),
        f"after the rename of {what}, before its folder's fsync": Point(
            os, "fsync", nothing, names_of
        ),
    }


BEGINNING = {
    "before the first state": Point(Journal, "_open", nothing),
    "first state on the disk, no run": Point(
        Journal, "_put_state", everything, lambda _, state: state.round == 1
    ),
    "run begun, nobody told": Point(Journal, "_open", everything),
}
ROUNDS = {
    "journal open, not mended": Point(Journal, "_mend", nothing),
    "journal mended": Point(Journal, "_mend", everything),
    "before it is noted who is asked": Point(Answers, "ask", nothing),
    "noted who is asked, nothing sent": Point(Answers, "ask", everything),
    "answer here, not opened": Point(asking, "decode", nothing),
    "answer admitted, not kept": Point(Answers, "record", nothing),
    **_files("an update", server_body),
    "update on the disk, before its row": Point(Answers, "_insert_answer", nothing),
    "row of an update, not committed": Point(Answers, "_insert_answer", everything),
    "inside a transaction": Point(Records, "execute", everything, said("BEGIN")),
    "before a commit": Point(Records, "execute", nothing, said("COMMIT")),
    "after a commit": Point(Records, "execute", everything, said("COMMIT")),
    "before the members": Point(Journal, "decide", nothing),
    "between members and closing": Point(Journal, "decide", everything),
    "round reported, before its state": Point(Journal, "close_round", nothing),
    "next state on the disk, round not closed": Point(
        Journal, "_put_state", everything, lambda _, state: state.round > 1
    ),
    "inside the transaction that closes a round": Point(
        Journal, "_insert_round", nothing, lambda _, round_, __: round_ > 1
    ),
    "round closed, nobody told": Point(Journal, "close_round", everything),
    "half of the metrics in their file": Point(Path, "write_bytes", half, metrics),
    "metrics written, adapter not published": Point(RunFolder, "write_metrics", everything),
    "between two files of the published adapter": Point(
        os, "replace", nothing, lambda _, target: Path(target).parent.name == "adapter"
    ),
    "published, old bodies not deleted": Point(Journal, "forget", nothing),
    "between two deletions of old bodies": Point(
        os,
        "unlink",
        everything,
        lambda path, **_: server_body(path) and Path(path).suffix != ".part",
    ),
}
ENDING = {"last round closed, journal open": Point(Journal, "close", nothing)}
COORDINATOR = BEGINNING | ROUNDS | ENDING
AVERAGING = {"averaged, nothing kept": Point(Step, "sweep", everything)}
TRAINING = {
    "before training": Point(Walking, "update", nothing),
    "while training": Point(Walking, "step", everything),
    "trained, nothing kept": Point(Walking, "update", everything),
}
MEMORY = {
    **_files("what is pending", pending),
    "pending kept, the one before still there": Point(
        os, "unlink", nothing, lambda path, **_: pending(path) and Path(path).suffix != ".part"
    ),
    "pending kept, no answer": Point(AgentMemory, "keep", everything),
}
DESK = {
    "task here, not opened": Point(Desk, "_opened", nothing),
    "task opened, not looked up": Point(AgentJournal, "answer", nothing),
    "answer made, not stored": Point(AgentJournal, "keep", nothing),
    **_files("an answer", agent_body),
    "answer on the disk, before its row": Point(
        Records, "execute", nothing, said("INSERT", by_agent=True)
    ),
    "answer stored, not sealed": Point(AgentJournal, "keep", everything),
    "answer sealed, not sent": Point(Desk, "_seal", everything),
}
SENDING = {
    "half of an answer sent": Point(
        Path, "write_bytes", half, lambda path, _: path.parent.name == "answers"
    ),
    "answer sent, its task still there": Point(
        Tray, "put", everything, lambda tray, *_: tray.folder.name == "answers"
    ),
}
