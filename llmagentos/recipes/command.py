"""The command line of a tuning run: its settings, its folder, and what to do with them."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from llmagentos.errors import SettingError
from llmagentos.recipes.cli import instantiated, parse, parser_for, read_words
from llmagentos.recipes.run_folder import RunFolder, run_folder
from llmagentos.settings import RunSettings


@dataclass(frozen=True)
class Recipe:
    """One door to the tuning program: a name, what it does, and where its defaults differ."""

    name: str
    description: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """What was asked for on the command line."""

    settings: RunSettings
    folder: RunFolder
    resume: bool
    dry_run: bool
    compare: bool
    numbered: bool = False
    """Whether nobody has named the folder, so that it may be the next one, too."""


def read_command(recipe: Recipe, words: Sequence[str]) -> Command:
    """The command, with the settings of the run that it resumes; no file is written.

    Raises ``SettingError`` for a wrong word, a taken name, or a setting that a resume keeps.
    """
    parser = _parser(recipe)
    asked = parse(parser, words)
    folder = run_folder(Path(asked.out), asked.name, recipe.name, resume=asked.resume)
    if asked.resume:
        parser.default_config_files = [glob.escape(str(folder.settings))]
        asked = parse(parser, words)
    settings = instantiated(RunSettings, parser, asked)
    if asked.resume:
        _check_resumed(load_settings(folder.settings), settings)
    numbered = asked.name is None and not asked.resume
    return Command(settings, folder, asked.resume, asked.dry_run, asked.compare, numbered)


def _parser(recipe: Recipe) -> ArgumentParser:
    parser = parser_for(RunSettings, recipe.name, recipe.description, recipe.defaults)
    group = parser.add_argument_group("The run and its folder")
    named = f"Folder of the run in --out; {recipe.name} unless given, numbered from the second on."
    group.add_argument("--name", help=named)
    group.add_argument("--out", default="runs", help="Where the folders of runs are.")
    for flag, help_ in FLAGS.items():
        group.add_argument(flag, action="store_true", help=help_)
    return parser


FLAGS = {
    "--resume": "Go on with an interrupted run; of its settings only --rounds may grow.",
    "--dry-run": "Print the resolved plan and stop.",
    "--compare": "Train each agent alone and all text in one place too, with the same budget.",
}


def dump_settings(settings: RunSettings) -> str:
    """The settings as the YAML that ``--config`` reads."""
    return yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)


def load_settings(path: Path) -> RunSettings:
    """The settings that ``dump_settings`` wrote."""
    parser = parser_for(RunSettings, "settings", "")
    return read_words(RunSettings, parser, ["--config", str(path)])


def _check_resumed(before: RunSettings, after: RunSettings) -> None:
    if after.rounds < before.rounds:
        raise SettingError(
            f"rounds={after.rounds}: the run was given {before.rounds}, and may only get more"
        )
    was, is_ = flat_settings(before), flat_settings(replace(after, rounds=before.rounds))
    for name, value in is_.items():
        if was[name] != value:
            raise SettingError(
                f"{name}={value!r}: the run has {was[name]!r}, and --resume keeps it; "
                "leave it out, or start another run"
            )


def flat_settings(settings: RunSettings) -> dict[str, Any]:
    """Values by dotted name; what is set by agent is one value."""
    return dict(_flat(settings))


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in fields(settings):
        name, value = prefix + item.name, getattr(settings, item.name)
        if is_dataclass(value):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
