from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Row = NDArray[Any] | tuple[NDArray[np.int8], NDArray[np.float32]]
_Float32s = NDArray[np.float32]
_Float64s = NDArray[np.float64]
_Ring = NDArray[np.uint32]
_Vectors = Sequence[_Float32s]
_Rates = Sequence[float]
_Stats = tuple[list[float], list[int]]

class Kernels:
    @property
    def name(self) -> str: ...
    def weighted_sum(
        self, out: _Float32s, rows: Sequence[_Row], weights: Sequence[float], threads: int, /
    ) -> _Stats: ...
    def average_step(
        self,
        out: _Float32s,
        anchor: _Float32s,
        lr: float,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> _Stats: ...
    def inspect(self, row: _Row, threads: int, /) -> tuple[float, int]: ...
    def momentum_step(
        self, out: _Vectors, before: _Vectors, rates: _Rates, threads: int, /
    ) -> None: ...
    def average_momentum_step(
        self,
        out: _Vectors,
        before: _Vectors,
        rates: _Rates,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> _Stats: ...
    def adam_step(
        self, out: _Vectors, before: _Vectors, rates: _Rates, threads: int, /
    ) -> None: ...
    def average_adam_step(
        self,
        out: _Vectors,
        before: _Vectors,
        rates: _Rates,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> _Stats: ...
    def yogi_step(
        self, out: _Vectors, before: _Vectors, rates: _Rates, threads: int, /
    ) -> None: ...
    def average_yogi_step(
        self,
        out: _Vectors,
        before: _Vectors,
        rates: _Rates,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> _Stats: ...
    def adagrad_step(
        self, out: _Vectors, before: _Vectors, rates: _Rates, threads: int, /
    ) -> None: ...
    def average_adagrad_step(
        self,
        out: _Vectors,
        before: _Vectors,
        rates: _Rates,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> _Stats: ...
    def proximal(
        self,
        gradient: _Float32s,
        weights: _Float32s,
        anchor: _Float32s,
        mu: float,
        threads: int,
        /,
    ) -> None: ...
    def train_step(
        self,
        training: _Vectors,
        gradient: _Float32s,
        scale: float,
        rates: _Rates,
        threads: int,
        /,
    ) -> None: ...
    def trimmed_mean(
        self, out: _Float32s, rows: Sequence[_Row], trim: int, threads: int, /
    ) -> _Stats: ...
    def squared_distances(
        self, matrix: _Float64s, rows: Sequence[_Row], threads: int, /
    ) -> None: ...
    def inner_products(self, matrix: _Float64s, rows: Sequence[_Row], threads: int, /) -> None: ...
    def ring_sum(self, out: _Ring, rows: Sequence[_Ring], threads: int, /) -> None: ...

instruction_sets: tuple[Kernels, ...]
