"""Runs that are played to their end from wherever they were killed, and what they come to."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from llmagentos import federation
from llmagentos.aggregation import in_one
from llmagentos.codecs import unpack
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.engines.carrier import Parcel
from llmagentos.engines.flower.tray import Tray
from llmagentos.federation import Federation, asynchrony
from llmagentos.journal import Journal
from llmagentos.memory import folder_name
from llmagentos.publish import write_peft_folder
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.settings import LocalSettings
from tests import coded, lora_world
from tests.coded import AGENTS, CODECS, ROSTER
from tests.faults.crash_points import Point
from tests.faults.walking import Walking
from tests.organisations import Direct, Organisations

SGD = LocalSettings(steps=3, batch=4, lr=0.1, optimizer="sgd")
FIT = {**asdict(SGD), "strategy": "fedavg", "aggregation": "naive"}
EVALUATE = {"rows": 8, "batch": 4}
Points = Mapping[str, Point]


@dataclass(frozen=True)
class World:
    """A kind of run: its parts over a folder, how its rounds go, and where it may be killed.

    ``points`` are by whom they kill; a single process is the coordinator and its agents at once.
    """

    parts: Callable[[Path], Federation]
    points: Mapping[str, Points]
    rounds: Callable[[Federation], Iterable[Any]] = federation.run

    def play(self, path: Path) -> None:
        """The run in a folder is at its end, wherever it was before."""
        folder = RunFolder(path)
        folder.claim(numbered=False)
        parts = self.parts(path)
        folder.begin("{}")
        publish(folder, parts.journal)
        for _ in self.rounds(parts):
            publish(folder, parts.journal)
        parts.journal.close()
        parts.engine.close()


def publish(folder: RunFolder, journal: Journal) -> None:
    """What a recipe leaves after each round, without a model."""
    if journal.reports():
        folder.write_metrics(journal.reports())
        write_peft_folder(folder.adapter, in_one(journal.state()), {}, "card")
        journal.forget(updates=True)


def rounds_of(strategy, engine, codec="int8", rounds=4, **plan):
    """The parts of a run over three hundred values whose agents walk home."""

    def parts(path):
        told = {"fit": {**FIT, "codec": CODECS[codec]}, "evaluate": EVALUATE}
        made = coded.federation(path / "journal", codec, rounds=rounds, settings=told, **plan)
        return replace(made, strategy=strategy, engine=engine(path))

    return parts


def factors_of(method):
    """The parts of a run over LoRA factors."""

    def parts(path):
        made = lora_world.federation(path / "journal", method, rounds=4)
        agents = with_memory(lora_world.Homing(), path / "agents")
        return replace(made, engine=InProcessEngine(agents, lora_world.ROSTER))

    return parts


def here(path):
    """All agents in the coordinator's process."""
    return InProcessEngine(with_memory(Walking(), path / "agents"), ROSTER)


class Echoes:
    """All that was ever answered in a run, which outlives the processes that heard it."""

    def __init__(self, run: Path) -> None:
        self.heard = Tray(run / "heard")
        self.random = Random(len(self.heard.names()))

    def among(self, fresh):
        """What has just come in random order, with up to three that came before, or twice."""
        for number, (agent, body) in enumerate(fresh, len(self.heard.names())):
            self.heard.put(f"{number:06}.{agent}", body)
        names = self.heard.names()
        mixed = fresh + [self.again(name) for name in self.random.sample(names, min(len(names), 3))]
        self.random.shuffle(mixed)
        return mixed

    def again(self, name):
        return Parcel(name.split(".")[1], self.heard.read(name))


class Haunted(InProcessEngine):
    """Answers everything at once, among echoes."""

    def __init__(self, path: Path) -> None:
        super().__init__(with_memory(Walking(), path / "agents"), ROSTER)
        self.echoes = Echoes(path)

    def poll(self, timeout_s=None):
        fresh = []
        while self._tasks:
            fresh += super().poll()
        return self.echoes.among(fresh)


class HauntedPost(Direct):
    """Carries sealed answers among echoes."""

    def __init__(self, path, answers):
        super().__init__(answers)
        self.echoes = Echoes(path)

    def poll(self, timeout_s=None):
        return self.echoes.among(super().poll())


def at_desks(keys: Path):
    """Agents at desks with keys and journals of their own; all organisations in this process."""
    organisations = Organisations(keys, ROSTER, Walking())
    return lambda path: organisations.moved(path / "agents").engine()


def at_haunted_desks(keys: Path):
    """As ``at_desks``, with answers that come again, late, and after a kill."""
    organisations = Organisations(keys, ROSTER, Walking())

    def engine(path):
        made = organisations.moved(path / "agents").engine()
        made.carrier = HauntedPost(path, made.carrier.answers)
        return made

    return engine


def outcome(path: Path) -> dict[str, Any]:
    """All that a finished run has come to, bit for bit: the server's, the agents', the published.

    Nothing that was half done is left, and every round is there once.
    """
    with Journal(path / "journal") as journal:
        reports = timeless(journal.reports())
        found = {
            "state": {name: bytes(vector) for name, vector in journal.state().vectors().items()},
            "reports": reports,
            "rows": journal._rows.execute(
                "SELECT round, kind, agent, squared_norm, refused FROM answers ORDER BY 1, 2, 3"
            ),
            "members": journal._rows.execute("SELECT round, members FROM rounds"),
            "asked": journal._rows.execute("SELECT round, kind, agent FROM asked ORDER BY 1, 2, 3"),
        }
        check_files(path, journal)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert timeless(map(json.loads, lines)) == reports
    assert [report["round"] for report in reports] == list(range(1, len(reports) + 1))
    published = (path / "adapter" / "adapter_model.safetensors").read_bytes()
    return found | {"published": published, "remembered": remembered(path / "agents")}


def timeless(reports):
    return [{**report, "seconds": 0} for report in reports]


def check_files(path, journal):
    """Every file in the journal has a row that names it, and nothing half-written is anywhere."""
    rows = journal._rows.execute("SELECT state FROM rounds UNION SELECT body FROM answers")
    left = {file.name for file in (path / "journal" / "cas").iterdir()}
    assert left <= {name for (name,) in rows}
    assert list(path.rglob("*.part")) == []


def remembered(home: Path) -> dict[str, dict[str, bytes]]:
    """What each agent remembers, by the round that left it."""
    found = {}
    for agent in AGENTS:
        for file in home.rglob(f"{folder_name(agent)}/**/round-*.safetensors"):
            name = str(file).partition(folder_name(agent))[2]
            found[agent + name] = {n: bytes(v) for n, v in unpack(file.read_bytes())[1].items()}
    return found


def without_rounds(**world):
    return World(**world, rounds=asynchrony.run)
