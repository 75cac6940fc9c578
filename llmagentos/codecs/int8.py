"""Blocks of 128 values as bytes with a common scale, rounded at random: a quarter of float32.

Alistarh et al. 2017, arXiv:1610.02132, section 3.1, with the largest magnitude as the norm.
"""

import numpy as np
from numpy.typing import NDArray

from llmagentos.codecs.codec import Codec, Parts, Vector, take
from llmagentos.scaled import GROUP, ScaledRow, groups, spread

LEVELS = 127
"""Largest magnitude of a byte."""
PIECE = 512 * GROUP
"""Values that are widened at a time."""


def int8() -> Codec:
    """``delta.q`` int8 ``(d,)`` and ``delta.scale`` float32, one for 128: x is q times scale.

    ``|error| <= scale``, which is the group's largest magnitude over 127, to float32 rounding.
    Unbiased: a value between two steps goes up with the odds of its distance from the lower one.
    """
    return Codec(encode, read, body_bytes, largest_error, unbiased=True)


def encode(vector: Vector, rng: np.random.Generator) -> Parts:
    """The scales, and the values in units of them."""
    scale = scales(vector)
    q = np.empty(len(vector), np.int8)
    for start in range(0, len(vector), PIECE):
        piece = vector[start : start + PIECE].astype(np.float64)
        step = spread(scale, start, start + len(piece)).astype(np.float64)
        units = np.divide(piece, step, out=np.zeros_like(piece), where=(step > 0) & (step < np.inf))
        # a draw next to 1 rounds the sum up to the step beyond the last
        q[start : start + PIECE] = np.minimum(np.floor(units + rng.random(len(piece))), LEVELS)
    return {"delta.q": q, "delta.scale": scale}


def scales(vector: Vector) -> Vector:
    """The largest magnitude of each group over 127, rounded up, so that no value leaves the range.

    Not finite where a value of the group is not.
    """
    padded = np.zeros(groups(len(vector)) * GROUP, np.float32)
    padded[: len(vector)] = np.abs(vector)
    largest = padded.reshape(-1, GROUP).max(axis=1).astype(np.float64)
    scale = (largest / LEVELS).astype(np.float32)
    short = LEVELS * scale.astype(np.float64) < largest
    rounded_up: Vector = np.where(short, np.nextafter(scale, np.float32(np.inf)), scale)
    return rounded_up


def read(parts: Parts, size: int) -> ScaledRow:
    """The row, decoded where it is read."""
    types = {"delta.q": (np.int8, size), "delta.scale": (np.float32, groups(size))}
    return ScaledRow(*take(parts, types))


def body_bytes(size: int) -> int:
    """A byte a value and four a group."""
    return size + 4 * groups(size)


def largest_error(vector: Vector) -> NDArray[np.float64]:
    """One step of the group; the product of a byte and a scale is rounded to float32."""
    step = spread(scales(vector), 0, len(vector)).astype(np.float64)
    return step * (1 + LEVELS * 2.0**-23)
