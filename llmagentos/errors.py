"""What can go wrong, as one small tree.

    LLMAgentOSError
    ├── SettingError         a setting, file or model that the user can mend        exit code 2
    │   ├── CorpusError      text that cannot become training rows
    │   └── ModelError       a model that cannot be reached or used
    ├── Refused              one update that the gate turned away; the round goes on
    │   └── Damaged          bytes that are no message; they are asked for again
    ├── QuorumError          too few agents answered for the round to count         exit code 1
    ├── DivergedError        training or the server's step has left finite numbers  exit code 1
    ├── JournalError         the run's folder is damaged, locked or not this run's  exit code 1
    └── DiskFull             no room for what has to be kept                        exit code 1

A broken invariant is an ``assert``; an absent agent is a ``Failure`` message.
"""


class LLMAgentOSError(Exception):
    """Root of every error that this package raises on purpose."""


class SettingError(LLMAgentOSError):
    """A wrong setting: the message names it, its value and the remedy."""


class CorpusError(SettingError):
    """Text that cannot become training rows: the message names file, line and remedy."""


class ModelError(SettingError):
    """A model that cannot be reached or used: the message says what was tried."""


class Refused(LLMAgentOSError):
    """One update that the gate turned away; the message is the reason."""


class Damaged(Refused):
    """Bytes that are no message, as after a broken transfer; they are asked for again."""


class QuorumError(LLMAgentOSError):
    """Too few updates were counted for the round to close."""


class DivergedError(LLMAgentOSError):
    """Training, or the server's own step, has left the finite numbers."""


class JournalError(LLMAgentOSError):
    """The run's folder is damaged, locked by another coordinator, or another run's."""


class DiskFull(LLMAgentOSError):
    """No room for what has to be kept: the message names the folder and the remedy."""
