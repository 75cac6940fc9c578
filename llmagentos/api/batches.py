"""A client's data as batches: the same ones for a seed, client and round."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from llmagentos.errors import SettingError
from llmagentos.lm.schedule import row_order
from llmagentos.messages import Task
from llmagentos.seeds import seed_of

ROWS_A_BATCH = 8
"""Rows of a batch where ``batch_size`` does not say."""


class Batches(Protocol):
    """Where a client's batches come from."""

    @property
    def rows(self) -> int | None:
        """Training rows; None where that is not known beforehand."""
        ...

    def of_round(self, task: Task, steps: int | None) -> Iterator[Any]:
        """The batches of ``steps`` steps, or of one pass over the data for None."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """One pass over the data."""
        ...


def batches_of(given: Any, batch_size: int | None) -> Batches:
    """The batches of a DataLoader, or of anything with a length whose items are rows.

    Raises ``SettingError`` for what is neither, and for what is empty.
    """
    made = _Loader(given) if isinstance(given, DataLoader) else _Rows(given, batch_size)
    if isinstance(made, _Loader) and batch_size is not None:
        raise SettingError(f"batch_size={batch_size}: the DataLoader has its own; leave it out")
    if made.rows == 0:
        raise SettingError("data is empty: give at least one row, or leave the client out")
    return made


def shapes_of(batch: Any) -> Any:
    """The batch with the shape of each tensor in its place, and the type of what is none."""
    if isinstance(batch, Mapping):
        return {name: shapes_of(value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(map(shapes_of, batch))
    return tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__


class _Loader:
    """A DataLoader's own batches.

    What it draws from torch's generators, such as the order of rows, follows from the task; one
    that does not shuffle starts from its beginning in every round.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.rows = _rows_of(loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def of_round(self, task: Task, steps: int | None) -> Iterator[Any]:
        own = (self.loader.generator, getattr(self.loader.sampler, "generator", None))
        for generator in own:
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed_of(task.seed, "loader", task.agent, task.round))
        return iter(self.loader) if steps is None else islice(_endless(self.loader), steps)


class _Rows:
    """Batches of rows in an order of our own, in which every row is seen equally often."""

    def __init__(self, given: Any, batch_size: int | None) -> None:
        self.given = given
        self.batch_size = batch_size or ROWS_A_BATCH
        self.rows = _length(given)
        if self.rows:
            _tensors(self._row(0))

    def __iter__(self) -> Iterator[Any]:
        return self._batches(range(self.rows))

    def of_round(self, task: Task, steps: int | None) -> Iterator[Any]:
        count = self.rows if steps is None else steps * self.batch_size
        start = (task.round - 1) * count
        return self._batches(row_order(task.seed, task.agent, self.rows, start, count).tolist())

    def _batches(self, order: Iterable[int]) -> Iterator[Any]:
        numbers = iter(order)
        while chosen := list(islice(numbers, self.batch_size)):
            yield _joined([_tensors(self._row(number)) for number in chosen])

    def _row(self, number: int) -> Any:
        try:
            return self.given[number]
        except (KeyError, TypeError, NotImplementedError) as error:
            raise _not_rows(self.given) from error


def _joined(rows: list[Any]) -> Any:
    """The batch of rows that are alike in shape."""
    try:
        return default_collate(rows)
    except RuntimeError as error:
        raise SettingError(
            f"data has rows that make no batch ({error}): give batch_size=1, or a DataLoader with "
            "a collate_fn that pads them"
        ) from error


def _rows_of(loader: DataLoader[Any]) -> int | None:
    """Rows that a DataLoader goes through, 0 where it has no batch, None where it cannot tell."""
    if isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(loader.sampler) if len(loader) else 0  # type: ignore[arg-type]
    except TypeError:
        return None


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """One pass after the other; ``SettingError`` once a pass has nothing."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise SettingError("data is empty: the DataLoader has no batch")


def _length(given: Any) -> int:
    try:
        return len(given)
    except TypeError as error:
        raise _not_rows(given) from error


def _not_rows(given: Any) -> SettingError:
    return SettingError(
        f"data of type {type(given).__name__} has no numbered rows: give a DataLoader, a torch or "
        "datasets dataset (one split), or a list of pairs or mappings"
    )


def _tensors(row: Any) -> Any:
    """A row whose numbers, also those in lists, are tensors; text stays as it is."""
    if isinstance(row, Mapping):
        return {name: _tensor(value) for name, value in row.items()}
    if isinstance(row, tuple | list) and len(row) == 2:
        return tuple(map(_tensor, row))
    raise SettingError(
        f"data has a row of type {type(row).__name__}; a row needs to be a pair (input, target) or "
        "a mapping: for tensors, use torch.utils.data.TensorDataset(inputs, targets)"
    )


def _tensor(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tensor(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_tensor, value))
    if not isinstance(value, bool | int | float | list):
        return value
    try:
        return torch.tensor(value)
    except (TypeError, ValueError):
        return value
