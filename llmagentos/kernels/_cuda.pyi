from collections.abc import Sequence

_Addresses = Sequence[int]
_Rates = Sequence[float]

row_limit: int

class Cohort:
    def __init__(
        self,
        rows: Sequence[tuple[int, str, int]],
        weights: Sequence[float],
        stats: int,
        workspace: int,
        /,
    ) -> None: ...

def workspace_bytes(size: int, rows: int, /) -> int: ...
def inspect(size: int, rows: Cohort, stream: int, /) -> None: ...
def weighted_sum(out: int, size: int, rows: Cohort, stream: int, /) -> None: ...
def average_step(
    out: int, anchor: int, lr: float, size: int, rows: Cohort, stream: int, /
) -> None: ...
def momentum_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, stream: int, /
) -> None: ...
def average_momentum_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, rows: Cohort, stream: int, /
) -> None: ...
def adam_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, stream: int, /
) -> None: ...
def average_adam_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, rows: Cohort, stream: int, /
) -> None: ...
def yogi_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, stream: int, /
) -> None: ...
def average_yogi_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, rows: Cohort, stream: int, /
) -> None: ...
def adagrad_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, stream: int, /
) -> None: ...
def average_adagrad_step(
    out: _Addresses, before: _Addresses, rates: _Rates, size: int, rows: Cohort, stream: int, /
) -> None: ...
def proximal(
    gradient: int, weights: int, anchor: int, mu: float, size: int, stream: int, /
) -> None: ...
def train_step(
    training: _Addresses,
    anchor: int,
    mu: float,
    clip: float,
    rates: _Rates,
    size: int,
    stats: int,
    workspace: int,
    stream: int,
    /,
) -> None: ...
