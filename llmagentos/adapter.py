"""An adapter is one flat float32 vector plus a layout."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from llmagentos.layout import Layout, Vector
from llmagentos.seeds import generator


@dataclass(frozen=True)
class Adapter:
    """A read-only ``(d,)`` float32 vector with the names and shapes of its tensors."""

    layout: Layout
    vector: Vector

    def __post_init__(self) -> None:
        assert self.vector.shape == (self.layout.size,)
        assert self.vector.dtype == np.float32
        self.vector.flags.writeable = False

    @cached_property
    def tensors(self) -> dict[str, Vector]:
        """Read-only views of the vector, by name and in shape."""
        return self.layout.split(self.vector)

    def __getitem__(self, name: str) -> Vector:
        return self.tensors[name]


def refit(vector: Vector, layout: Layout, other: Layout) -> Vector:
    """A ``(d,)`` vector in another layout: each tensor cut at its end, or continued with zeros.

    Tensors that only the other layout has are zero. Zeros beyond the rank leave every product as
    it is, and stay zero in training: where a row of A and its column of B are zero, so are their
    gradients.
    """
    if layout == other:
        return vector
    resized = np.zeros(other.size, np.float32)
    whole = layout.split(vector)
    for name, view in other.split(resized).items():
        if name in whole:
            corner = tuple(map(slice, np.minimum(view.shape, whole[name].shape)))
            view[corner] = whole[name][corner]
    return resized


def initial_vector(layout: Layout, seed: int, *purpose: int | str) -> Vector:
    """Where pairs start: A uniform within 1/sqrt(in), as PEFT draws it, and all else zero.

    Of an embedding A is uniform within 1: what it is multiplied with has a single 1, so A x is as
    large as that of inputs of variance 1 elsewhere. (PEFT starts with A zero and B drawn.)
    ``(d,)`` float32, the same for a seed, and a purpose where one is given, on every machine.
    """
    vector = np.zeros(layout.size, np.float32)
    tensors, draw = layout.split(vector), generator(seed, "first factors", *purpose)
    for pair in sorted(layout.pairs, key=lambda pair: pair.a):
        first = tensors[pair.a]
        bound = 1.0 if pair.looked_up else 1 / sqrt(first.shape[1])
        first[...] = draw.uniform(-bound, bound, first.shape)
    return vector
