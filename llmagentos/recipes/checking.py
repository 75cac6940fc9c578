"""What could keep an agent from serving, tried out one by one, each with its remedy."""

import shutil
import ssl
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from llmagentos.agent import AgentSettings
from llmagentos.corpus import Example
from llmagentos.corpus.own import ToExample, own_examples
from llmagentos.engines.flower.program import SUPEREXEC, installed
from llmagentos.errors import LLMAgentOSError, SettingError
from llmagentos.identity import name_of, read_key
from llmagentos.lm.batches import target_tokens
from llmagentos.messages import Task
from llmagentos.recipes.desk import Bench, open_bench, own_model
from llmagentos.recipes.terms import read_terms
from llmagentos.settings import LocalSettings, Terms

NEEDED_BYTES = 2_000_000_000
"""Free disk that the journal, the memory and a model's cache may come to need."""
AHEAD_S, BEHIND_S = 5, 300
"""How far a clock may be off before the SuperLink takes a node's messages for old or forged."""
PATIENCE_S = 10


def check(settings: AgentSettings, to_example: ToExample) -> int:
    """The number of things that are wrong; each line says so, and what to do."""
    tried = Tried(settings, to_example)
    wrong: set[str] = set()
    to_mend = 0
    for line in LINES:
        verdict, told = _verdict(line, tried, wrong)
        if verdict != "ok":
            wrong.add(line.name)
        to_mend += verdict == "NO"
        print(f"{verdict:3} {line.name:9} {told}", flush=True)
    return to_mend


def _verdict(line: "Line", tried: "Tried", wrong: set[str]) -> tuple[str, str]:
    missing = [name for name in line.needs if name in wrong]
    if missing:
        return "--", f"not tried; mend {' and '.join(missing)} first"
    try:
        return "ok", line.attempt(tried)
    except (LLMAgentOSError, OSError) as error:
        return "NO", str(error)


class Tried:
    """What has been opened so far, once."""

    def __init__(self, settings: AgentSettings, to_example: ToExample) -> None:
        self.settings = settings
        self._to_example = to_example

    @cached_property
    def terms(self) -> Terms:
        """What the coordinator wrote."""
        return read_terms(Path(self.settings.terms))

    @cached_property
    def examples(self) -> Sequence[Example]:
        """The agent's own."""
        return own_examples(self.settings.corpus, self._to_example)

    @cached_property
    def bench(self) -> Bench:
        """The model with the adapter, and the rows."""
        return open_bench(self.settings, self.terms, self.examples)

    @cached_property
    def server_date(self) -> str | None:
        """The date that the SuperLink tells, over TLS that the authority vouches for."""
        host, _, port = self.settings.superlink.rpartition(":")
        if not host:
            raise SettingError("superlink is not set: the coordinator has its HOST:PORT for you")
        if not Path(self.settings.authority).is_file():
            raise SettingError(f"authority={self.settings.authority!r}: no such file; ask for it")
        context = ssl.create_default_context(cafile=self.settings.authority)
        connection = HTTPSConnection(host, int(port), timeout=PATIENCE_S, context=context)
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().getheader("Date")
        except (OSError, HTTPException) as error:
            raise SettingError(
                f"superlink={self.settings.superlink!r}: {error}; is it up, does the firewall let "
                "this machine call it, and is authority its certificate's?"
            ) from None
        finally:
            connection.close()


def try_key(tried: Tried) -> str:
    """The public key."""
    return f"public key {name_of(read_key(Path(tried.settings.key)))}"


def try_node_key(tried: Tried) -> str:
    """That the node has a key of its owner's alone."""
    path = Path(tried.settings.node_key)
    if not path.is_file():
        raise SettingError(f"{path}: no such file; make it: enrol node-key --file {path}")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingError(f"{path} can be read by others; run chmod 600 {path}")
    return f"{path}; the coordinator needs {path}.pub"


def try_flower(_: Tried) -> str:
    """That what a SuperNode starts is in this environment."""
    return installed(SUPEREXEC)


def try_terms(tried: Tried) -> str:
    """The coordinator's key, to be compared."""
    terms = tried.terms
    return f"coordinator {terms.coordinator[:16]}..., base {terms.base[:12]}, seed {terms.seed}"


def try_server(tried: Tried) -> str:
    """That the SuperLink answers."""
    _ = tried.server_date
    return f"{tried.settings.superlink} answers, and its certificate is good"


def try_clock(tried: Tried) -> str:
    """How far the clock is off."""
    if tried.server_date is None:
        return "the server tells no time; see that this machine's is set by NTP"
    ahead = time.time() - parsedate_to_datetime(tried.server_date).timestamp()
    if not -BEHIND_S < ahead < AHEAD_S:
        raise SettingError(f"{ahead:+.0f} s from the server's; let NTP set it (timedatectl)")
    return f"{ahead:+.0f} s from the server's"


def try_disk(tried: Tried) -> str:
    """The room that is left."""
    home = Path(tried.settings.home).absolute()
    there = next(path for path in (home, *home.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < NEEDED_BYTES:
        raise SettingError(f"{free / 1e9:.1f} GB are free in {there}; make room for 2 GB")
    return f"{free / 1e9:.0f} GB are free in {there}"


def try_corpus(tried: Tried) -> str:
    """The examples, and that they are enough."""
    count, least = len(tried.examples), tried.settings.limits.examples
    if count < least:
        raise SettingError(f"{count} examples, limits.examples={least} wants more; add text")
    return f"{count:,} examples in {tried.settings.corpus}"


def try_model(tried: Tried) -> str:
    """That the weights are the agreed ones, and how many rows they are trained on."""
    silo, held = tried.bench.silo, own_model(tried.settings, tried.terms).quantize
    weights = "the agreed weights" + (f", held in {held}" if held != "none" else "")
    rows = f"{len(silo.train):,} training rows with {target_tokens(silo.train):,} target tokens"
    return f"{weights}; {rows}, {len(silo.held_out)} held out"


def try_training(tried: Tried) -> str:
    """The loss of one step."""
    trainer, name = tried.bench.trainer, tried.settings.name
    local = asdict(LocalSettings(steps=1, batch=1, precision=tried.terms.precision))
    adapter = trainer.bench.flat.vector.detach().cpu().numpy().copy()
    vectors, told = {"adapter": adapter}, {**local, "horizon": 1}
    task = Task("check", 1, "fit", name, vectors, trainer.layout, seed=0, settings=told)
    start = time.monotonic()
    loss = trainer.update(task).metrics["train_loss"]
    return f"a step took {time.monotonic() - start:.1f} s, loss {loss:.2f}"


class Line(NamedTuple):
    """One thing to try, and what has to be right before."""

    name: str
    attempt: Callable[[Tried], str]
    needs: tuple[str, ...] = ()


LINES = (
    Line("key", try_key),
    Line("node key", try_node_key),
    Line("flower", try_flower),
    Line("terms", try_terms),
    Line("disk", try_disk),
    Line("server", try_server),
    Line("clock", try_clock, ("server",)),
    Line("corpus", try_corpus),
    Line("model", try_model, ("terms", "corpus")),
    Line("training", try_training, ("model",)),
)
