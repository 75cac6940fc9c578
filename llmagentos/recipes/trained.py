"""An adapter that was named on the command line, with the settings of the run that trained it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from llmagentos.errors import SettingError
from llmagentos.recipes.cli import parser_for, read_words
from llmagentos.recipes.command import flat_settings, load_settings
from llmagentos.recipes.run_folder import RunFolder

Asked = TypeVar("Asked")

OWN_NAMES = {
    "batch": "evaluation.batch",
    "precision": "local.precision",
    "template": "corpus.template",
}
"""Settings of a run that the programs on a finished adapter call by a shorter name."""


def read_asked(kind: type[Asked], program: str, description: str, words: Sequence[str]) -> Asked:
    """What the words ask for; what they leave open is as in the run that trained the adapter.

    Its settings are those of ``--config``, else the ``settings.yaml`` of the run that the adapter's
    folder is of, where there is one, else the defaults, which is said; only those that ``kind`` has
    are taken.
    Raises ``SettingError`` for a wrong word or file.
    """
    named, rest = _named(words)
    parser = parser_for(kind, program, description)
    source = _source(named.config, named.adapter)
    if source is None and named.adapter is not None:
        told = f"{named.adapter}: no settings.yaml of its run; what is not said has its default"
        print(told, file=sys.stderr)
    if source is not None:
        parser.set_defaults(_shared(source, list(vars(parser.get_defaults().as_flat()))))
    if named.adapter is not None:
        rest.append(f"--adapter={named.adapter}")
    return read_words(kind, parser, rest)


def _named(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """``--config`` and ``--adapter``, and the words without them."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    finder.add_argument("--adapter")
    try:
        return finder.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise SettingError(str(error)) from None


def _source(config: str | None, adapter: str | None) -> Path | None:
    """The file that says how the adapter was trained; none for a folder from elsewhere."""
    if config is not None:
        return Path(config)
    above = list(Path(adapter).resolve().parents) if adapter else []
    own = len(above) > 1 and above[0].name == RunFolder(above[1]).personal.name
    run = above[1 if own else 0 : 2 if own else 1]
    return next((file for folder in run if (file := RunFolder(folder).settings).is_file()), None)


def _shared(source: Path, names: Sequence[str]) -> dict[str, Any]:
    """The values that a run's settings have for the names."""
    run = flat_settings(load_settings(source))
    known = {name: OWN_NAMES.get(name, name) for name in names}
    return {name: run[theirs] for name, theirs in known.items() if theirs in run}


def check_adapter(folder: str) -> None:
    """Raise ``SettingError`` unless the folder holds an adapter; what it holds is read later."""
    if not folder:
        raise SettingError(
            "adapter is not set: name a PEFT folder, as in --adapter runs/NAME/adapter"
        )
    if (Path(folder) / "adapter_config.json").is_file():
        return
    remedy = "no adapter_config.json there; set the folder that a run or PEFT wrote"
    if (Path(folder) / "adapter" / "adapter_config.json").is_file():
        remedy = f"that is the run; set {Path(folder) / 'adapter'}"
    raise SettingError(f"adapter={folder!r}: {remedy}")
