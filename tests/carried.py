"""What the agents of the carriers' tests do, importable from the processes that they run in."""

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from llmagentos.engines.carrier import Answer


@dataclass(frozen=True)
class Clerk:
    """Makes answers that name the agent, its process and what it read; some bodies are orders."""

    folder: Path
    """Where an order leaves a trace that outlives the process."""

    def __call__(self, agent: str) -> Answer:
        def answer(body: bytes) -> bytes:
            match body:
                case b"raise":
                    raise MemoryError("no room for the batch")
                case b"die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case b"die once" if not self.died(agent):
                    os.kill(os.getpid(), signal.SIGKILL)
                case b"work":
                    time.sleep(60)
                case b"echo":
                    return bytes(range(256)) * 2**15
                case b"who":
                    return f"{agent} {os.getpid()}".encode()
            return agent.encode() + b" " + digest(body)

        return answer

    def died(self, agent: str) -> bool:
        """Whether the order was followed before; from here on it was."""
        trace = self.folder / agent
        before = trace.exists()
        trace.touch()
        return before


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
