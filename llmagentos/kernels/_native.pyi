from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Row = NDArray[Any]
_Float32s = NDArray[np.float32]
_Float64s = NDArray[np.float64]
_Two = tuple[_Float32s, _Float32s]
_Three = tuple[_Float32s, _Float32s, _Float32s]
_Four = tuple[_Float32s, _Float32s, _Float32s, _Float32s]
_Rates = tuple[float, float, float, float]

class Kernels:
    @property
    def name(self) -> str: ...
    def weighted_sum(
        self, out: _Float32s, rows: Sequence[_Row], weights: Sequence[float], threads: int, /
    ) -> tuple[list[float], list[int]]: ...
    def average_step(
        self,
        out: _Float32s,
        anchor: _Float32s,
        lr: float,
        rows: Sequence[_Row],
        weights: Sequence[float],
        threads: int,
        /,
    ) -> tuple[list[float], list[int]]: ...
    def inspect(self, row: _Row, threads: int, /) -> tuple[float, int]: ...
    def accumulate(
        self, sums: _Float64s, row: _Row, weight: float, threads: int, /
    ) -> tuple[float, int]: ...
    def finish(self, out: _Float32s, sums: _Float64s, threads: int, /) -> None: ...
    def finish_step(
        self, out: _Float32s, anchor: _Float32s, lr: float, sums: _Float64s, threads: int, /
    ) -> None: ...
    def momentum_step(
        self, out: _Two, before: _Three, lr: float, beta: float, threads: int, /
    ) -> None: ...
    def adam_step(self, out: _Three, before: _Four, rates: _Rates, threads: int, /) -> None: ...
    def yogi_step(self, out: _Three, before: _Four, rates: _Rates, threads: int, /) -> None: ...
    def adagrad_step(self, out: _Three, before: _Four, rates: _Rates, threads: int, /) -> None: ...
    def proximal(
        self,
        gradient: _Float32s,
        weights: _Float32s,
        anchor: _Float32s,
        mu: float,
        threads: int,
        /,
    ) -> None: ...

instruction_sets: tuple[Kernels, ...]
