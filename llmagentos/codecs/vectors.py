"""Several vectors of one update, each coded by itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmagentos.codecs.codec import Codec, Parts, Vector
from llmagentos.codecs.rows import Row
from llmagentos.errors import Refused

DELTA = "delta"
"""What codecs name their parts after."""


def encode_all(
    codec: Codec, vectors: Mapping[str, Vector], draws: Callable[[str], np.random.Generator]
) -> dict[str, NDArray[Any]]:
    """The parts of all vectors, under names that begin with that of their vector."""
    return {
        name + part.removeprefix(DELTA): values
        for name, vector in vectors.items()
        for part, values in codec.encode(vector, draws(name)).items()
    }


def read_all(codec: Codec, parts: Parts, names: Sequence[str], size: int) -> dict[str, Row]:
    """The rows of ``size`` values by the names of their vectors.

    Raises ``Refused`` for parts that ``encode_all`` cannot have made of vectors of these names.
    """
    sorted_out: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in names}
    for part, values in parts.items():
        stem = part.partition(".")[0]
        name = stem if stem in sorted_out else DELTA
        sorted_out[name][DELTA + part.removeprefix(stem) if name == stem else part] = values
    return {name: _read(codec, name, found, size) for name, found in sorted_out.items()}


def _read(codec: Codec, name: str, parts: Parts, size: int) -> Row:
    try:
        return codec.read(parts, size)
    except Refused as reason:
        if name == DELTA:
            raise
        raise Refused(f"{name!r} in place of 'delta': {reason}") from None
