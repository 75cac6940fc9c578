"""A run over Flower that is killed at every place, against the same run left in peace.

    python benchmarks/disturbed.py [--config recipes/fedavg.yaml] [--folder FOLDER] [--out FILE]

Four organisations run the scripts of agents/, the coordinator a SuperLink with TLS and node keys.
Undisturbed first; then again, with an agent, the SuperLink and the coordinator killed in rounds
2, 3 and 4. Ends with an error unless every round of both has the same bits, and writes what it
saw: every line of the transcript was written by the programs, or says what this script did.
"""

import argparse
import hashlib
import os
import re
import signal
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml
from rows import machine
from services import RESTART_S, Line, Story, facts
from trial import AGENTS, BRIEF, ROOT, Parties, Trial, merged

VERSIONS = "flwr", "torch", "transformers", "peft", "llmagentos"
COORDINATOR = (
    "loading ",
    "agents dial in",
    "resumed",
    "round ",
    "rounds in ",
    "sent ",
    "ended",
    "Flower",
)
"""What its lines have in them, but for the tables at the end."""
TIME = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ ")
NAMES = "undisturbed", "disturbed"


def kill(pid: int, whom: str, story: Story) -> None:
    """SIGKILL, and a line that says so."""
    story.tell("disturbance", f"SIGKILL to process {pid}, {whom}")
    os.kill(pid, signal.SIGKILL)


def disturb(trial: Trial) -> None:
    """An agent is killed while it trains; SuperLink and coordinator with a round half answered."""
    story = trial.story
    trial.wait("the hospital's second training", lambda: trial.trains("hospital", 2))
    kill(trial.agents["hospital"].running.pid, "the hospital's agent, which trains", story)
    trial.wait("an answer in round 3", lambda: bool(trial.answered(3)))
    kill(trial.superlink().pid, f"the SuperLink; {standing(trial, 3)}", story)
    trial.wait("an answer in round 4", lambda: bool(trial.answered(4)))
    kill(trial.coordinator.running.pid, f"the coordinator; {standing(trial, 4)}", story)


def standing(trial: Trial, round_: int) -> str:
    """Who has answered in the open round."""
    return f"round {round_} has the answers of {', '.join(trial.answered(round_))}"


def played(parties: Parties, name: str, disturbed: bool) -> Story:
    """One run from start to end, and its story."""
    with Story() as story:
        trial = Trial(parties, name, story)
        try:
            if disturbed:
                disturb(trial)
            trial.finish()
        finally:
            trial.end()
    return story


def bits(run: Path) -> dict[str, str]:
    """The hash of every round's state as the journal names it, and that of the published file."""
    database = f"{(run / 'journal' / 'journal.sqlite').resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as rows:
        states = rows.execute("SELECT round, state FROM rounds ORDER BY round").fetchall()
    published = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    told = {f"state before round {round_}": state for round_, state in states}
    last = f"state after round {len(states) - 1}"
    told[last] = told.pop(f"state before round {len(states)}")
    return {**told, "published adapter": hashlib.sha256(published).hexdigest()}


def rounds_table(runs: dict[str, Path]) -> str:
    """A row a round: the losses, who counted, and how long it took in both runs."""
    told = {name: facts(run / "metrics.jsonl") for name, run in runs.items()}
    lines = [
        "| round | held-out loss | agents counted | up, bytes | s undisturbed | s disturbed |",
        "|---|---|---|---|---|---|",
    ]
    for calm, rough in zip(*told.values(), strict=True):
        same = {name for name in calm if calm[name] == rough[name]}
        assert {"round", "loss", "agents", "weights", "norms", "bytes_up", "refused"} <= same
        cells = [calm["round"], f"{calm['loss']:.6f}", ", ".join(calm["weights"])]  # type: ignore[call-overload]
        cells += [f"{calm['bytes_up']:,}", calm["seconds"], rough["seconds"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def hash_table(told: dict[str, dict[str, str]]) -> str:
    """A row a state, the hash in both runs."""
    calm, rough = told.values()
    lines = [f"| SHA-256 of | {' | '.join(told)} |", "|---|---|---|"]
    lines += [f"| {what} | `{calm[what]}` | `{rough[what]}` |" for what in calm]
    return "\n".join(lines)


def worth_telling(line: Line) -> bool:
    """Whether a line of a program's log tells anything of the run; its last tables are left out."""
    if line.who == "relay":
        return "sent again" in line.text or "rror" in line.text
    said = line.who != "coordinator" or any(start in line.text for start in COORDINATOR)
    return bool(line.text.strip()) and said


def of_coordinator(line: Line) -> bool:
    """Whether the coordinator said it, and it tells anything."""
    return line.who == "coordinator" and worth_telling(line)


def transcript(lines: Iterable[Line], folder: Path) -> str:
    """The lines that matter, without a second time of day and the place of the folder."""
    shown = []
    for line in lines:
        text = line.text.replace(f"{folder}/", "")
        shown.append(f"{line.when:%H:%M:%S} {line.who:<11} {TIME.sub('', text)}")
    return "\n".join(shown)


PAGE = """# A run that was killed everywhere

Written by `benchmarks/disturbed.py`{config}: a real run over Flower, and the same run with an
agent killed in round 2, the SuperLink in round 3 and the coordinator in round 4. No deadline is
set, so no round is closed without anybody. Both end with the same bits.

* {machine}
* {versions}; {date}.
* {agents}: each `agents/NAME.py` in a process of its own, with its own keys, journal and SuperNode.
  Training rows: {rows}.
* Coordinator: `python -m llmagentos.recipes.fedavg_lora --name trial --config trial.yaml`, and with
  `--resume` in place of `--config` after it was killed. TLS by an authority of its own; nodes and
  agents are known by their keys.

`trial.yaml`, where it differs from the default settings:

```yaml
{settings}```

## The same bits

{hashes}

## Rounds

Losses, members, weights, norms of the updates and bytes are equal in both runs; the time is not.

{rounds}

## The disturbed run

Lines as the programs wrote them, with the time (UTC) at which they were read. `disturbance` is the
script that kills; `services` does what a service manager does, and starts a program again
{restart} s after it was killed; `relay` is Flower's process at the coordinator. Left out are what
Flower says while nothing is wrong, the tables at the end, and the folder before a file's name.

```text
{disturbed}
```

## The undisturbed run

What the coordinator said:

```text
{undisturbed}
```
"""


def report(folder: Path, config: Path) -> str:
    """Both runs in a folder, and what there is to tell of them."""
    settings = merged(yaml.safe_load(config.read_text()) or {}, BRIEF)
    parties = Parties(folder, settings)
    rows = parties.prepare()
    stories = {name: played(parties, name, name == "disturbed") for name in NAMES}
    runs = {name: folder / name / "runs" / "trial" for name in NAMES}
    hashes = {name: bits(run) for name, run in runs.items()}
    assert hashes["undisturbed"] == hashes["disturbed"], hash_table(hashes)
    return PAGE.format(
        config=f" with `--config {config.name}`",
        machine=machine(0).replace(" 0 values in a vector;", ""),
        versions=", ".join(f"{name} {version(name)}" for name in VERSIONS),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        agents=", ".join(AGENTS).capitalize(),
        rows=", ".join(f"{count} ({name})" for name, count in rows.items()),
        settings=yaml.safe_dump(settings, sort_keys=False),
        hashes=hash_table(hashes),
        rounds=rounds_table(runs),
        restart=f"{RESTART_S:g}",
        disturbed=transcript(filter(worth_telling, stories["disturbed"].lines), folder),
        undisturbed=transcript(filter(of_coordinator, stories["undisturbed"].lines), folder),
    )


def main() -> None:
    """Play both runs, compare them, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "recipes" / "fedavg.yaml")
    parser.add_argument("--folder", type=Path, help="Kept, and must not exist; else one that goes.")
    parser.add_argument("--out", type=Path, help="Markdown file; printed unless given.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch) / "parties").absolute()
        text = report(folder, asked.config)
    if asked.out:
        asked.out.write_text(text)
    print(text.partition("## The disturbed run")[0] if asked.out else text)


if __name__ == "__main__":
    main()
