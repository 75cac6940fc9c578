"""What an agent keeps for itself from one round to the next, such as what its codec has lost."""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from llmagentos.codecs import pack, unpack
from llmagentos.errors import Damaged, JournalError
from llmagentos.files import make_folder, write_durably
from llmagentos.layout import Vector
from llmagentos.messages import Task

log = logging.getLogger(__name__)


class AgentMemory:
    """Vectors as they were after a round, one file a round, in a folder of the agent's own.

    What is kept in a round counts once a later task's receipt names that round, and never if none
    does. So a round that the server did not count leaves no trace, a repeated task finds what the
    first one found, and a kill at any point changes nothing. Folders inside are not touched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, task: Task) -> dict[str, Vector]:
        """What was kept in the round of the task's receipt; nothing before the first of them.

        Raises ``JournalError`` for a file that is damaged, or of another run or layout.
        """
        if task.receipt is None:
            return {}
        path = self._path(task.receipt)
        try:
            found, vectors = unpack(path.read_bytes())
        except FileNotFoundError:
            log.warning("agent %r lost %s, and starts from an empty memory", task.agent, path)
            return {}
        except Damaged as error:
            raise JournalError(f"{path} is damaged: {error}; delete it to forget it") from error
        if found != _owner(task):
            raise JournalError(f"{path} is of another run or layout; delete it to forget it")
        return vectors

    def check(self, task: Task) -> None:
        """Raise ``JournalError`` where ``recall`` would, before any work for the task begins.

        The file is read again when its turn comes: the memories of all agents at once may not fit.
        """
        if not self.lost(task):
            self.recall(task)

    def keep(self, task: Task, vectors: Mapping[str, Vector]) -> None:
        """Keep the vectors for the round of the task, and else only those of its receipt."""
        make_folder(self.folder)
        write_durably(self._path(task.round), pack(_owner(task), vectors))
        needed = {self._path(task.round), self._path(task.receipt or 0)}
        for path in set(filter(Path.is_file, self.folder.iterdir())) - needed:
            path.unlink()

    def lost(self, task: Task) -> bool:
        """Whether the file of the round that the task's receipt names is gone."""
        return task.receipt is not None and not self._path(task.receipt).exists()

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_}.safetensors"


def _owner(task: Task) -> dict[str, str]:
    return {"run": task.run, "agent": task.agent, "layout": task.layout.hash}


def folder_name(agent: str) -> str:
    """A file name that no other agent has, on any file system, whatever the agent is called."""
    digest = hashlib.sha256(agent.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', agent)[:40]}.{digest}"
