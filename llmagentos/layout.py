"""What lies where in the flat vector of an adapter."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

Part = Literal["A", "B", "both"]
"""The first factors of all pairs; the second ones, with all that is no factor; or both."""


@dataclass(frozen=True)
class LoraPair:
    """Two tensors whose product ``scale * B @ A`` is added to one weight of the base model.

    To that of an embedding, ``(tokens, width)``, it is added the other way round.
    """

    a: str
    b: str
    rank: int
    alpha: float
    scale: float

    @property
    def layer(self) -> str:
        """The full name of the layer, with which those of its factors begin."""
        return self.a.partition(".lora_")[0]

    @property
    def module(self) -> str:
        """The layer's own name, without those of what it is in."""
        return self.layer.rpartition(".")[2]

    @property
    def looked_up(self) -> bool:
        """Whether A has a column for every token, of which one is taken, as at an embedding."""
        return self.a.endswith(".lora_embedding_A")


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors that lie one after the other in a ``(d,)`` vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    pairs: tuple[LoraPair, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.shapes) == len(set(self.names))

    @staticmethod
    def order(shapes: Mapping[str, tuple[int, ...]], pairs: tuple[LoraPair, ...] = ()) -> "Layout":
        """All first factors A, then all second factors B, then the rest; each group by name."""
        group = {pair.a: 0 for pair in pairs} | {pair.b: 1 for pair in pairs}
        names = tuple(sorted(shapes, key=lambda name: (group.get(name, 2), name)))
        return Layout(names, tuple(tuple(shapes[name]) for name in names), pairs)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Where each tensor ends in the vector."""
        return tuple(accumulate(prod(shape) for shape in self.shapes))

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each tensor lies in the vector, by name."""
        starts = (0, *self.ends)
        return {n: slice(a, b) for n, a, b in zip(self.names, starts, self.ends, strict=False)}

    @property
    def size(self) -> int:
        """Number of values d."""
        return self.ends[-1] if self.ends else 0

    @cached_property
    def roles(self) -> dict[str, Part]:
        """Which tensors are first factors A, and which second ones B."""
        firsts: dict[str, Part] = {pair.a: "A" for pair in self.pairs}
        return firsts | {pair.b: "B" for pair in self.pairs}

    @cached_property
    def factors(self) -> "Layout":
        """The layout of the pairs alone, which is the beginning of this one."""
        return self._where(lambda name: name in self.roles, self.pairs)

    def part(self, part: Part) -> slice:
        """Where a part lies in the vector, which is one piece for each."""
        if part == "both":
            return slice(0, self.size)
        first = self.only("A").size
        return slice(0, first) if part == "A" else slice(first, self.size)

    def only(self, part: Part) -> "Layout":
        """The layout of a part alone."""
        if part == "both":
            return self
        return self._where(lambda name: (self.roles.get(name) == "A") == (part == "A"))

    def ranked(self, rank: int) -> "Layout":
        """The same pairs at another rank; each keeps its scale."""

        def at_rank(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
            resized = {"A": (rank, *shape[1:]), "B": (*shape[:-1], rank)}
            return resized[self.roles[name]] if name in self.roles else shape

        shapes = tuple(map(at_rank, self.names, self.shapes))
        return Layout(self.names, shapes, tuple(replace(pair, rank=rank) for pair in self.pairs))

    def at(self, modules: Collection[str]) -> "Layout":
        """The pairs at layers of these names alone, and all that is no factor."""
        pairs = tuple(pair for pair in self.pairs if pair.module in modules)
        kept = {name for pair in pairs for name in (pair.a, pair.b)}
        return self._where(lambda name: name in kept or name not in self.roles, pairs)

    def _where(self, wanted: Callable[[str], bool], pairs: tuple[LoraPair, ...] = ()) -> "Layout":
        """The tensors whose names are wanted, with these pairs among them."""
        named = zip(self.names, self.shapes, strict=True)
        kept = {name: shape for name, shape in named if wanted(name)}
        return Layout(tuple(kept), tuple(kept.values()), pairs)

    def within(self, other: "Layout") -> bool:
        """Whether it is the other layout, or that with fewer modules or at a lower rank."""
        ranks = {pair.rank for pair in self.pairs}
        if self == other or len(ranks) != 1:
            return self == other
        (rank,), modules = ranks, {pair.module for pair in self.pairs}
        lower = rank <= max((pair.rank for pair in other.pairs), default=0)
        return lower and other.at(modules).ranked(rank) == self

    def fitting(self, vector: Vector) -> "Layout":
        """The layout of the pairs alone at the rank that a vector of them has."""
        return self.factors.ranked(len(vector) // self.factors.ranked(1).size)

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Views of a ``(d,)`` vector, by name and in shape."""
        assert vector.shape == (self.size,)
        pieces = np.split(vector, self.ends[:-1]) if self.names else []
        shaped = zip(self.names, pieces, self.shapes, strict=True)
        return {name: piece.reshape(shape) for name, piece, shape in shaped}

    def join(self, tensors: Mapping[str, Vector]) -> Vector:
        """The ``(d,)`` vector of the named tensors."""
        vector = np.empty(self.size, np.float32)
        for name, view in self.split(vector).items():
            view[...] = tensors[name]
        return vector

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form; equal layouts have equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Layout":
        """The layout that ``to_json`` wrote."""
        fields = json.loads(text)
        pairs = tuple(LoraPair(**pair) for pair in fields["pairs"])
        return Layout(tuple(fields["names"]), tuple(map(tuple, fields["shapes"])), pairs)
