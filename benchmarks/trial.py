"""A coordinator and four organisations over Flower, as docs/organisations.md brings them up."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from services import Service, Story

from llmagentos.engines.flower.local import free_port
from llmagentos.errors import JournalError
from llmagentos.report.progress import Progress, read_progress

ROOT = Path(__file__).parent.parent
AGENTS = "bank", "city", "factory", "hospital"
PROGRAMS = "llmagentos.recipes"
RUN = (
    f"exec {sys.executable} -m {PROGRAMS}.fedavg_lora --name trial "
    "$(test -e runs/trial/settings.yaml && echo --resume || echo --config ../trial.yaml)"
)
"""The coordinator's service, as docs/deployment.md has it."""

BRIEF: dict[str, Any] = {
    "rounds": 5,
    "threads": 1,
    "engine": "flower",
    "local": {"steps": 4},
    "codec": {"name": "int8"},
    "evaluation": {"rows": 12, "final_rows": 24},
    "flower": {
        "roster": "../roster.yaml",
        "key": "../coordinator.key",
        "node_keys": "../nodes",
        "certificates": "../certificates",
    },
}
"""What a trial's settings say beside, or in place of, those of its ``--config``."""


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, those above where both say something."""
    both = {name: merged(under[name], over[name]) for name in under if deep(name, under, over)}
    return {**under, **over, **both}


def deep(name: str, *nested: Mapping[str, Any]) -> bool:
    """Whether all of them have more settings under a name."""
    return all(isinstance(each.get(name), Mapping) for each in nested)


@dataclass(frozen=True)
class Parties:
    """Keys, terms and list in a folder, made once by the programs that a person would call."""

    folder: Path
    settings: Mapping[str, Any]

    def prepare(self) -> dict[str, str]:
        """All is there; the number of rows that each agent's own check tells."""
        (self.folder / "nodes").mkdir(parents=True)
        (self.folder / "trial.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        self.call("enrol", "key", "--file", "coordinator.key")
        self.call("enrol", "certificates")
        self.call("terms", "--config", "trial.yaml", "--key", "coordinator.key")
        return {name: self._enrol(name) for name in AGENTS}

    def _enrol(self, name: str) -> str:
        told = self.call("enrol", "key", "--file", f"{name}.key")
        self.call("enrol", "node-key", "--file", f"nodes/{name}")
        checked = subprocess.run(  # the server is not up yet, which the check says too
            [*self.script(name, Path()), "--check"],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
        ).stdout
        rows = re.search(r"([\d,]+) training rows", checked)
        assert rows, checked
        count = rows[1].replace(",", "")
        key = told.split()[-1]
        self.call("enrol", "add", "--name", name, "--key", key, "--examples", count)
        return count

    def call(self, program: str, *words: str) -> str:
        """What a program prints."""
        command = [sys.executable, "-m", f"{PROGRAMS}.{program}", *words]
        done = subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    def script(self, name: str, up: Path) -> list[str]:
        """An organisation's own command line, from a folder that lies ``up`` below this one."""
        words = [sys.executable, str(ROOT / "agents" / f"{name}.py"), "--threads", "1"]
        words += ["--terms", str(up / "terms.yaml"), "--key", str(up / f"{name}.key")]
        words += ["--node-key", str(up / "nodes" / name), "--home", f"home/{name}"]
        words += ["--authority", str(up / "certificates" / "ca.pem")]
        if self.settings.get("corpus", {}).get("source") == "invented":
            words += ["--corpus", f"invented/{name}"]
            words += ["--limits.examples", "5", "--limits.rows", "5", "--limits.held_out", "1"]
        return words


class Trial:
    """One run of the parties in a folder of its own, and its processes."""

    def __init__(self, parties: Parties, name: str, story: Story) -> None:
        self.folder, self.story = parties.folder / name, story
        self.folder.mkdir()
        self.port = free_port()
        (self.folder / "runs").mkdir()
        self.run = self.folder / "runs" / "trial"
        settings = merged(parties.settings, {"flower": {"port": self.port}})
        (parties.folder / "trial.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        self.coordinator = self._service("coordinator", ["/bin/sh", "-c", RUN])
        story.follow("relay", self.run / "engine" / "flower" / "superexec.log")
        dial = ["--superlink", f"localhost:{self.port}"]
        self.agents = {
            name: self._service(name, [*parties.script(name, Path("..")), *dial]) for name in AGENTS
        }

    def _service(self, name: str, words: list[str]) -> Service:
        return Service(name, words, self.folder, self.story)

    def wait(self, what: str, ready: Callable[[], bool], limit_s: float = 900) -> None:
        """Return when it is so; meanwhile what was killed is started again."""
        end = time.monotonic() + limit_s
        while not ready():
            for service in (self.coordinator, *self.agents.values()):
                service.tend()
            if time.monotonic() > end or self.coordinator.over:
                raise TimeoutError(f"{what}: not within {limit_s:g} s; see {self.folder}")
            time.sleep(0.05)

    def finish(self) -> None:
        """The run is over, with its summary."""
        while not self.coordinator.over:
            for service in (self.coordinator, *self.agents.values()):
                service.tend()
            time.sleep(0.2)

    def progress(self) -> Progress | None:
        """How far it is; nothing where it has not begun."""
        try:
            return read_progress(self.run / "journal")
        except (JournalError, TypeError):
            return None

    def answered(self, round_: int) -> list[str]:
        """The agents whose update of the open round is in the journal, if it is that round."""
        found = self.progress()
        if found is None or found.open_round != round_:
            return []
        return [asked.agent for asked in found.asked if asked.kind == "fit" and asked.answered]

    def trains(self, name: str, round_: int) -> bool:
        """Whether an agent is at work on its update of the open round."""
        found = self.progress()
        if found is None or found.open_round != round_:
            return False
        asked = {each.agent for each in found.asked if each.kind == "fit" and each.waiting}
        begun = self.folder / "home" / name / "flower" / "begun"
        return name in asked and begun.is_dir() and any(begun.iterdir())

    def superlink(self) -> psutil.Process:
        """The coordinator's SuperLink."""
        parts = psutil.Process(self.coordinator.running.pid).children(recursive=True)
        (found,) = [part for part in parts if "flower-superlink" in " ".join(part.cmdline())]
        return found

    def end(self) -> None:
        """No process is left."""
        for service in (self.coordinator, *self.agents.values()):
            service.end()
