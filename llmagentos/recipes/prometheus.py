"""The numbers of a run where Prometheus can read them."""

import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmagentos.errors import SettingError
from llmagentos.report.records import read_run
from llmagentos.settings.checks import require_package

Record = Mapping[str, Any]

BY_AGENT = {
    "loss": ("agents", "Held-out loss of the global adapter on an agent's rows, nats a token."),
    "train_loss": ("train_loss", "Mean training loss of an agent in its last round."),
    "weight": ("weights", "Share of an agent in the last average."),
    "delta_norm": ("norms", "L2 norm of an agent's last change."),
}
"""Metric to the key of a round's record, and what it says."""

TOTALS = {
    "bytes_up": "Bytes of the updates that counted.",
    "bytes_down": "Bytes of the vectors that training tasks carried.",
    "seconds": "Wall time of the closed rounds.",
}


def check_prometheus(address: str | None) -> None:
    """Raise ``SettingError`` where the address cannot be served from."""
    if address is None:
        return
    require_package("prometheus_client", "prometheus", address, "prometheus")
    host, port = _split(address)
    with _named(address), socket.create_server((host, port)):
        pass


@contextmanager
def _named(address: str) -> Iterator[None]:
    """What goes wrong with an address inside is a setting that is wrong."""
    try:
        yield
    except OSError as error:
        raise SettingError(
            f"prometheus={address!r}: {error.strerror}; name a free port of this machine"
        ) from error


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not int(port) < 2**16:
        raise SettingError(f"prometheus={address!r}: needs HOST:PORT, as in 127.0.0.1:9464")
    return host, int(port)


@contextmanager
def prometheus(address: str | None, folder: Path) -> Iterator[None]:
    """``http://HOST:PORT/metrics`` tells a run's numbers inside; nowhere for None."""
    if address is None:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(RunCollector(folder))
    host, port = _split(address)
    with _named(address):
        server, thread = start_http_server(port, host, registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RunCollector:
    """Reads the folder at every scrape, so a resumed run tells of all its rounds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterable[Any]:
        """The metric families of the closed rounds."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        rounds = read_run(self.folder).rounds
        last: Record = rounds[-1] if rounds else {}
        yield GaugeMetricFamily("llmagentos_round", "Closed rounds.", value=len(rounds))
        if last.get("loss") is not None:
            yield GaugeMetricFamily(
                "llmagentos_mean_loss", "Plain mean of the agents' losses.", value=last["loss"]
            )
        for name, (key, says) in BY_AGENT.items():
            family = GaugeMetricFamily(f"llmagentos_{name}", says, labels=["agent"])
            for agent, value in (last.get(key) or {}).items():
                family.add_metric([agent], value)
            yield family
        for name, says in TOTALS.items():
            total = sum(record[name] for record in rounds)
            yield CounterMetricFamily(f"llmagentos_{name}", says, value=total)
        refused = CounterMetricFamily(
            "llmagentos_refused", "Updates that were refused.", labels=["agent"]
        )
        refusals = Counter(agent for record in rounds for agent in record.get("refused") or {})
        for agent, count in refusals.items():
            refused.add_metric([agent], count)
        yield refused
