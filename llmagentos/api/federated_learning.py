"""Federated learning of any torch model, as one object."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from llmagentos.adapter import Adapter
from llmagentos.api.batches import batches_of
from llmagentos.api.bystander import Bystander
from llmagentos.api.clients import Client, client_of
from llmagentos.api.display import round_bar, summary_line
from llmagentos.api.optimizers import fresh_optimizer
from llmagentos.api.strategy import (
    plan_of,
    proximal_mu,
    server_settings,
    strategy_for,
    with_mean_buffers,
)
from llmagentos.api.trainer import ClientTrainer, Loss, Stop
from llmagentos.api.weights import ModelWeights, trainable
from llmagentos.engines import InProcessEngine
from llmagentos.errors import SettingError
from llmagentos.federation import Federation, run
from llmagentos.fields import LONGEST_TEXT, is_name
from llmagentos.journal import Journal
from llmagentos.messages import Enrolled
from llmagentos.round_report import RoundReport
from llmagentos.settings import ServerSettings
from llmagentos.settings.checks import require
from llmagentos.state import ServerState
from llmagentos.strategies import Strategy, check_updates


class FederatedLearning:
    """Clients in this process train one model together; each sees its own data only.

    Examples:
        >>> fl = FederatedLearning(model, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> fl.add_client(north)
        >>> fl.add_client(south)
        >>> fl.train(num_rounds=10)
        >>> global_model = fl.get_global_model()

    ``model`` is any torch module, a PEFT model included; it stays as it is, and copies of it are
    trained and returned. Its trainable parameters and saved floating-point buffers are averaged in
    float32, whatever their own type; other buffers keep their values. Batches are moved to its
    device. A batch is a pair ``(input, target)``, for ``loss_fn(model(input), target)``, or a
    mapping, for ``loss_fn(model(**batch), batch)``, in which ``forward`` gets the fields it has
    arguments for. ``optimizer`` is made afresh for every client and round: from an instance its
    class and settings, with its groups, are taken (of one over another model's parameters the
    same, if it has one group); or it is a class, or a function of a list of parameters.

    With ``folder`` the rounds are kept there, and the same calls in another process go on where
    these have stopped and end with the same bits, if model, clients and arguments are the same.
    What the caller's code draws elsewhere than from torch's generators is the caller's to seed.
    Wrong use raises ``SettingError``, which names the argument and the remedy.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss,
        optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer],
        *,
        folder: str | Path | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"model={model!r}: needs to be a torch.nn.Module")
        require(callable(loss_fn), "loss_fn", loss_fn, "needs to be callable with (output, target)")
        made = not isinstance(loss_fn, type)
        require(made, "loss_fn", loss_fn, "is a class; call it, as in torch.nn.MSELoss()")
        passed = Bystander(trainable(model))
        self._weights = ModelWeights(deepcopy(model))
        self._clients: dict[str, Client] = {}
        fresh = fresh_optimizer(optimizer, model)
        fresh(self._weights.parameters)
        self._trainer = ClientTrainer(self._weights, loss_fn, fresh, self._clients, passed)
        adapter = Adapter(self._weights.layout, self._weights.vector())
        self._state = ServerState(1, adapter)
        self._rounds = 0
        self._current = folder is None
        self._folder = None if folder is None else _made(Path(folder))
        self._facts = {} if folder is None else {"model": self._weights.hash()}

    def add_client(
        self,
        name: Any = None,
        data: Any = None,
        *,
        weight: float | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
    ) -> None:
        """One more client trains in the rounds to come: ``add_client(data)`` or with a name first.

        ``data`` is a DataLoader, a torch or ``datasets`` dataset, or a list of pairs or mappings,
        each of them a row.
        A DataLoader makes its own batches, and its shuffling follows from the seed; other data
        is shuffled anew in every pass and read in batches of ``batch_size``, 8 unless given.
        ``weight`` is what the client counts for in the average, by default its number of rows;
        among three and more none counts for over ten times the median. It takes ``steps``
        optimizer steps a round, by default one pass over its data.
        """
        if data is None and not isinstance(name, str):
            name, data = None, name
        name = f"client-{len(self._clients) + 1}" if name is None else name
        form = f"printable text, not blank, with plain blanks, of up to {LONGEST_TEXT} letters"
        require(is_name(name), "name", name, f"a name is {form}; call add_client(name, data)")
        if data is None or isinstance(data, str):
            raise SettingError(f"data={data!r}: give the rows or batches of client {name!r}")
        if name in self._clients:
            raise SettingError(f"name={name!r}: a client has this name already; choose another")
        self._clients[name] = client_of(
            name, data, weight=weight, steps=steps, batch_size=batch_size
        )

    def train(
        self,
        num_rounds: int,
        strategy: str | ServerSettings | Strategy = "fedavg",
        *,
        mu: float | None = None,
        seed: int = 0,
        verbose: bool = True,
    ) -> list[RoundReport]:
        """The reports of the next ``num_rounds`` rounds, which were played unless kept already.

        ``strategy`` is fedprox or a name of ``ServerSettings.strategy``, settings that say more, or
        a ``llmagentos.strategies.Strategy`` of the caller's own.
        ``mu`` is FedProx's pull to the global model, 0.01 unless given for fedprox, 0 else. The
        server's moments are kept from call to call. ``seed`` decides what is drawn:
        order of rows, dropout, sampled clients. What a client's training raises is raised here,
        unless settings have a ``quorum`` below 1: then that client merely misses the round.
        Interrupted and called again, it plays the rounds that are missing.
        """
        whole = isinstance(num_rounds, Integral) and num_rounds >= 1
        require(whole, "num_rounds", num_rounds, "needs to be a whole number, at least 1")
        if not self._clients:
            raise SettingError("there is no client: call add_client before train")
        server, pull = server_settings(strategy), proximal_mu(strategy, mu)
        combining = strategy_for(strategy, server)
        check_updates(server, len(self._clients))
        first, last = self._rounds + 1, self._rounds + int(num_rounds)
        with self._journal() as journal, round_bar(first - 1, last, verbose=verbose) as show:
            name = journal.begin(self._weights.layout, self._facts, lambda: self._state)
            plan = plan_of(name, last, seed, server, pull)
            before = journal.state().round
            averaging = with_mean_buffers(combining, self._weights.in_buffers)
            self._play(Federation(averaging, self._engine(), journal, plan), show)
            kept = [RoundReport(**report) for report in journal.reports()]
        self._rounds = last
        reports = [report for report in kept if first <= report.round <= last]
        Console(quiet=not verbose, highlight=False).print(summary_line(reports, before))
        return reports

    def get_global_model(self) -> nn.Module:
        """A copy of the model with the weights of the last round, in the mode it was given in.

        Before ``train`` that is the last round kept in ``folder``, if there is one.
        """
        self._weights.load(self._latest().adapter.vector)
        return deepcopy(self._weights.model)

    def evaluate(self, data: Any, batch_size: int | None = None) -> float:
        """The global model's loss on data as ``add_client`` takes it, the mean over batches."""
        self._weights.load(self._latest().adapter.vector)
        return self._trainer.mean_loss(batches_of(data, batch_size))

    def _latest(self) -> ServerState:
        """The state after the last round, which another process may have played in the folder."""
        if self._current:
            return self._state
        with self._journal() as journal:
            if not journal.reports():
                return self._state
            journal.begin(self._weights.layout, self._facts, lambda: self._state)
            return journal.state()

    def _play(self, parts: Federation, show: Callable[[RoundReport], None]) -> None:
        """The plan's rounds are closed, and the state is that of the round after them."""
        self._state, self._current, error = parts.journal.state(), True, None
        try:
            for report in run(parts):
                self._state = parts.journal.state()
                parts.journal.forget(updates=True)
                show(report)
        except Stop as stop:
            error = stop.error
        if error is not None:
            raise error

    def _engine(self) -> InProcessEngine:
        """All clients; what each declares is its weight, here any positive number."""
        clients = self._clients.values()
        roster = {client.name: Enrolled(client.weight) for client in clients}
        return InProcessEngine(self._trainer, roster)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        """The journal in the caller's folder, else in one that goes away."""
        folder = self._folder
        place = nullcontext(str(folder)) if folder else TemporaryDirectory(prefix="llmagentos-")
        with place as path, Journal(Path(path)) as journal:
            yield journal


def _made(folder: Path) -> Path:
    """The folder, which is there; ``SettingError`` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = f"{error.strerror}; name a folder to write to"
        raise SettingError(f"folder={str(folder)!r}: {remedy}") from error
    return folder
