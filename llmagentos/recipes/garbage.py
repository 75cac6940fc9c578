"""Python's garbage collector, off while a program starts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Nothing is searched for garbage inside; the collector goes on behind as it was before.

    For imports: torch, transformers and peft make a million objects that stay, and going through
    them again and again is a fifth of the time. What is there behind the first block of a process
    is left out of later searches, too. An error puts the collector on again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if collecting:
            gc.enable()
