"""The values of largest magnitude with their places; all others count as zero."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from llmagentos.codecs.codec import Codec, Parts, Vector, take
from llmagentos.codecs.rows import CodedRow
from llmagentos.errors import Refused


def top_k(share: float) -> Codec:
    """``delta.index`` uint32 and ``delta.value`` float32: k is ``share`` of d, rounded, at least 1.

    What is sent is exact, and what is not is no larger than anything that is. The squared norm of
    the error is at most 1 - k/d of the vector's: Stich et al. 2018, arXiv:1809.07599, Definition
    2.1. Of equal magnitudes those that come first are sent.
    """

    def kept(size: int) -> int:
        return min(size, max(1, round(share * size)))

    def encode(vector: Vector, rng: np.random.Generator) -> Parts:  # noqa: ARG001
        index = _largest(vector, kept(len(vector)))
        return {"delta.index": index, "delta.value": vector[index]}

    def read(parts: Parts, size: int) -> CodedRow:
        count = kept(size)
        types = {"delta.index": (np.uint32, count), "delta.value": (np.float32, count)}
        index, value = take(parts, types)
        _check(index, size)
        return CodedRow(partial(_between, index, value), size)

    def largest_error(vector: Vector) -> NDArray[np.float64]:
        index = _largest(vector, kept(len(vector)))
        bound = np.full(len(vector), np.abs(vector[index]).min(initial=np.inf), np.float64)
        bound[index] = 0
        return bound

    return Codec(encode, read, lambda size: 8 * kept(size), largest_error)


def _largest(vector: Vector, count: int) -> NDArray[np.uint32]:
    """The places of the ``count`` largest magnitudes, rising; NaN counts as the largest."""
    magnitude = np.abs(vector)
    magnitude[np.isnan(magnitude)] = np.inf
    if count == 0:
        return np.empty(0, np.uint32)
    least = np.partition(magnitude, len(vector) - count)[len(vector) - count]
    chosen = magnitude > least
    ties = np.flatnonzero(magnitude == least)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen).astype(np.uint32)


def _check(index: NDArray[np.uint32], size: int) -> None:
    if len(index) and index[-1] >= size:
        raise Refused(f"'delta.index' names place {index[-1]} of {size}")
    if np.any(index[1:] <= index[:-1]):
        raise Refused("'delta.index' does not rise strictly")


def _between(index: NDArray[np.uint32], value: Vector, start: int, stop: int) -> Vector:
    low, high = np.searchsorted(index, np.array([start, stop], np.uint32))
    values = np.zeros(stop - start, np.float32)
    values[index[low:high] - np.uint32(start)] = value[low:high]
    return values
