"""What a corpus is made of: examples of text, rows of tokens, and the silo of one agent."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Example:
    """One piece of text to learn from: prompt and response, a chat, or plain text."""

    prompt: str
    """Empty for plain text; the turn before the last answer of a chat."""
    response: str
    """The answer; all of a plain text; the last answer of a chat."""
    turns: tuple[tuple[str, str], ...] = ()
    """A chat as (role, content) up to its last answer; empty otherwise."""
    group: str | None = field(default=None, compare=False)
    """Value of the field that the corpus is dealt out by; it does not tell two examples apart."""
    where: str = field(default="", compare=False)
    """File and line that an error names; empty where it has none."""

    @property
    def plain(self) -> bool:
        """Whether it is plain text, without a prompt."""
        return not (self.prompt or self.turns)


@dataclass(frozen=True)
class Row:
    """One sequence of ``t`` tokens, unpadded."""

    ids: NDArray[np.int32]
    """``(t,)`` token ids."""
    learn: NDArray[np.bool_]
    """``(t,)``; whether ``ids[i]`` is a target of the loss; the first never is."""

    def __post_init__(self) -> None:
        assert self.ids.shape == self.learn.shape
        assert not self.learn[0]
        assert self.learn.any()
        self.ids.flags.writeable = False
        self.learn.flags.writeable = False

    @property
    def content(self) -> tuple[bytes, bytes]:
        """The same for rows with the same tokens and targets."""
        return self.ids.tobytes(), self.learn.tobytes()


@dataclass(frozen=True)
class Silo:
    """One agent's own text, in tokens; no row is both trained on and held out."""

    name: str
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    sample: Example
    """The first held-out example."""
    dropped: int = 0
    """Rows left out: up to ``max_tokens`` without an answer, or the same as a held-out one."""
    cut: int = 0
    """Rows whose end lies behind ``max_tokens``."""
