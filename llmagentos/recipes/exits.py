"""How a program ends: 0 done, 1 failed, 2 wrong setting, 130 interrupted."""

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType

from llmagentos.errors import LLMAgentOSError, SettingError

INTERRUPTED = 130


def exit_code(program: Callable[[], None], resume_hint: str = "") -> int:
    """Run a program and say in one line on standard error why it did not finish."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        program()
    except SettingError as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say(f"interrupted; nothing is lost{resume_hint}", INTERRUPTED)
    except LLMAgentOSError as error:
        return _say(error, 1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _say(f"{error}{'; make room, then' + resume_hint if full else ''}", 1)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _say(message: object, code: int) -> int:
    print(f"{'error: ' if code != INTERRUPTED else ''}{message}", file=sys.stderr)
    return code
