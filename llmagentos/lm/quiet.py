"""Loading and saving on this machine alone, without network and without noise."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants as hub
from transformers.utils import logging as library


@contextmanager
def quiet() -> Iterator[None]:
    """No call to the hub, no progress bars and no log lines below errors inside the block.

    ``local_files_only`` alone would still let the hub's library report which tools run it.
    """
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    offline = hub.HF_HUB_OFFLINE
    library.set_verbosity(logging.ERROR)
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = offline
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]
