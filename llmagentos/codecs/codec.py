"""What a codec is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from llmagentos.codecs.rows import Row
from llmagentos.errors import Refused

Vector = NDArray[np.float32]
Parts = Mapping[str, NDArray[Any]]
"""1-D arrays by the names that they have in a wire file."""

LONGEST_LIST = 120
"""Letters of the names of parts that a refusal tells."""


@dataclass(frozen=True)
class Codec:
    """How a ``(d,)`` float32 delta becomes the parts of a wire file, and a row again.

    ``encode`` draws from its generator only. What is not finite stays so, for the gate to see.
    ``read`` raises ``Refused`` for parts that ``encode`` cannot have made.
    """

    encode: Callable[[Vector, np.random.Generator], Parts]
    read: Callable[[Parts, int], Row]
    """The row of ``d`` values that the parts hold, in place where the kernels can read it."""
    body_bytes: Callable[[int], int]
    """What the parts of ``d`` values take."""
    largest_error: Callable[[Vector], NDArray[np.float64]]
    """How far each decoded value may be from the finite value that was encoded, ``(d,)``."""
    lossy: bool = True
    unbiased: bool = False
    """Whether the mean over draws is the vector itself."""


def take(parts: Parts, types: Mapping[str, tuple[DTypeLike, int]]) -> list[NDArray[Any]]:
    """The parts in the order of ``types``; ``Refused`` unless just these, of that type and length.

    ``types`` is the part's type and how many values it has.
    """
    if set(parts) != set(types):
        raise Refused(f"it holds {_listed(parts)} where its codec sends {_listed(types)}")
    for name, (kind, count) in types.items():
        part = parts[name]
        if part.dtype != np.dtype(kind):
            raise Refused(f"{name!r} is {part.dtype} where its codec sends {np.dtype(kind)}")
        if part.shape != (count,):
            raise Refused(f"{name!r} has {part.size} values where its codec sends {count}")
    return [parts[name] for name in types]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names))[:LONGEST_LIST] or "nothing"
