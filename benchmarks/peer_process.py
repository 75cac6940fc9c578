"""A peer's process in an environment of its own, which times itself."""

import json
import subprocess
from pathlib import Path
from typing import Any


class PeerProcess:
    """Says hello with ``version`` and ``errors`` in a line of JSON, then times what it is asked.

    ``script`` lies beside this file and takes ``words`` as its arguments.
    """

    def __init__(self, python: Path, script: str, *words: object) -> None:
        command = [str(python), str(Path(__file__).with_name(script)), *map(str, words)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hello: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.version: str = self.hello["version"]
        self.errors: dict[str, Any] = self.hello["errors"]

    def seconds(self, name: str) -> float:
        """One run of the named contender."""
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
