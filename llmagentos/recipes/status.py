"""How far a run is, live or dead: ``python -m llmagentos.recipes.status``."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser
from rich.console import Group
from rich.live import Live

from llmagentos.errors import SettingError
from llmagentos.recipes.cli import parse
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.run_folder import RunFolder
from llmagentos.report import terminal
from llmagentos.report.progress import Progress, read_progress
from llmagentos.report.status import status_tables
from llmagentos.settings.checks import require

DESCRIPTION = (
    "Rounds, losses, bytes and refusals of a run, and who has answered in the round that is open. "
    "Reads what the run has written and disturbs nothing; a run that is dead can be looked at too."
)


def main(words: Sequence[str] | None = None) -> int:
    """Print the status; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: show(sys.argv[1:] if words is None else words))


def show(words: Sequence[str]) -> None:
    """Print once, as tables or as JSON, or go on printing until interrupted."""
    asked = parse(_parser(), words)
    positive = asked.watch is None or asked.watch > 0
    require(positive, "watch", asked.watch, "needs to be above 0")
    both = asked.json and asked.watch is not None
    require(not both, "watch", asked.watch, "--json prints once; leave one of them out")
    folder = named_run(asked.run, Path(asked.out))
    if asked.json:
        print(json.dumps(asdict(read_progress(folder.journal)), indent=2))
    elif asked.watch is None:
        terminal().print(tables(folder))
    else:
        watch(folder, asked.watch)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m llmagentos.recipes.status",
        description=DESCRIPTION,
        usage="%(prog)s [RUN] [--SETTING VALUE ...]",
        exit_on_error=False,
        allow_abbrev=False,
    )
    help_ = "Folder of the run, or its name in --out; the last one begun unless given."
    parser.add_argument("run", nargs="?", help=help_)
    parser.add_argument("--out", default="runs", help="Where the folders of runs are.")
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="Look again every so many seconds."
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object for programs.")
    return parser


def named_run(name: str | None, out: Path) -> RunFolder:
    """The run of that name or folder; the last one begun for None."""
    if name is None:
        begun = [run for run in map(RunFolder, out.glob("*")) if run.begun]
        if not begun:
            raise SettingError(f"--out={str(out)!r}: holds no run; name the folder of one")
        return max(begun, key=lambda run: run.settings.stat().st_mtime)
    found = next((path for path in (Path(name), out / name) if RunFolder(path).begun), None)
    if found is None:
        there = Path(name) if Path(name).is_dir() else out
        runs = sorted(path.name for path in there.glob("*") if RunFolder(path).begun)
        raise SettingError(
            f"run={name!r}: no run; in {there} there are {', '.join(runs) or 'none'}"
        )
    return RunFolder(found)


def tables(folder: RunFolder) -> Group:
    """The run as it is."""
    progress: Progress = read_progress(folder.journal)
    try:
        rounds = yaml.safe_load(folder.settings.read_text())["rounds"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise SettingError(f"run={str(folder.path)!r}: its settings.yaml is damaged") from error
    return status_tables(progress, folder.path.name, rounds, time.time())


def watch(folder: RunFolder, pause_s: float) -> None:
    """The run as it is, renewed until interrupted."""
    with Live(tables(folder), console=terminal(), auto_refresh=False) as live:
        while True:
            time.sleep(pause_s)
            live.update(tables(folder), refresh=True)


if __name__ == "__main__":
    sys.exit(main())
