"""Every value as one floating-point number, which the kernels read in place."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from llmagentos.codecs.codec import Codec, Parts, Vector, take


def fp32() -> Codec:
    """The values themselves, 4 bytes each, bit for bit."""

    def encode(vector: Vector, rng: np.random.Generator) -> Parts:  # noqa: ARG001
        return {"delta": vector}

    def read(parts: Parts, size: int) -> NDArray[Any]:
        return take(parts, {"delta": (np.float32, size)})[0]

    return Codec(encode, read, lambda size: 4 * size, np.zeros_like, lossy=False, unbiased=True)


def fp16() -> Codec:
    """Rounded to 11 significant bits; the smallest number is 2^-24, the largest 65504."""
    return _rounded(np.dtype(np.float16), bits=11, smallest=2.0**-24, largest=65504.0)


def bf16() -> Codec:
    """Rounded to 8 significant bits, over the range of float32; the smallest number is 2^-133."""
    return _rounded(
        np.dtype(ml_dtypes.bfloat16), bits=8, smallest=2.0**-133, largest=2.0**128 - 2.0**120
    )


def _rounded(kind: np.dtype[Any], *, bits: int, smallest: float, largest: float) -> Codec:
    """Rounded to the nearest number of a type of 2 bytes.

    ``|error| <= max(|x| 2^-bits, smallest / 2)``; what lies beyond the largest number becomes that.
    """

    def encode(vector: Vector, rng: np.random.Generator) -> Parts:  # noqa: ARG001
        cut = np.clip(vector, np.float32(-largest), np.float32(largest))
        within = np.where(np.isfinite(vector), cut, vector)
        return {"delta": within.astype(kind)}

    def read(parts: Parts, size: int) -> NDArray[Any]:
        return take(parts, {"delta": (kind, size)})[0]

    def largest_error(vector: Vector) -> NDArray[np.float64]:
        magnitude = np.abs(vector.astype(np.float64))
        rounding = np.maximum(magnitude * 2.0**-bits, smallest / 2)
        return np.maximum(rounding, magnitude - largest)

    return Codec(encode, read, lambda size: 2 * size, largest_error)
