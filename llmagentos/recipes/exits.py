"""How a program ends: 0 done, 1 failed, 2 wrong setting, 130 interrupted."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import TextIO

from llmagentos.errors import JournalError, LLMAgentOSError, SettingError
from llmagentos.files import FULL


def exit_code(program: Callable[[], None], go_on: Callable[[], str] = str) -> int:
    """Run a program and say on standard error, in a line, why it did not finish.

    ``go_on`` says how to go on from where an interrupted program stopped, once that is known. A
    journal that cannot be used says its own remedy.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        _say_what_it_can(stream)
    try:
        program()
    except SettingError as error:
        return _say(f"error: {error}", 2)
    except KeyboardInterrupt:
        return _say(f"interrupted; nothing is lost. {go_on()}".rstrip(), 130)
    except JournalError as error:
        return _say(f"error: {error}.", 1)
    except LLMAgentOSError as error:
        return _say(f"error: {error}. {go_on()}".rstrip(), 1)
    except OSError as error:
        room = " Make room first." if error.errno in FULL else ""
        return _say(f"error: {error}.{room} {go_on()}".rstrip(), 1)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _say_what_it_can(stream: TextIO) -> None:
    """A letter that a stream's encoding has not is a question mark, not the program's end."""
    # A stream whose file was changed for a pipe (dup2) cannot be asked: it stays as it is.
    if isinstance(stream, TextIOWrapper):
        with suppress(OSError):
            stream.reconfigure(errors="replace")


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
