"""What happens in a run, one JSON object a line, for people who collect logs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

FIELDS = "%(levelname)s %(name)s %(process)d %(message)s"
"""Of every line, beside its time and what the event adds, such as round and agent."""


def log_to_terminal(level: int, line: str = "%(message)s") -> None:
    """Messages of this level and above are plain lines on standard error."""
    console = logging.StreamHandler()
    console.setLevel(level)
    logging.basicConfig(format=line, handlers=[console], level=level)
    # It prints its lines itself, and would have them printed a second time.
    logging.getLogger("huggingface_hub").propagate = False


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Events of the package are appended to the file inside, the quiet ones too."""
    package = logging.getLogger("llmagentos")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonFormatter(FIELDS, timestamp=True))
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(level)
        package.removeHandler(handler)
        handler.close()
