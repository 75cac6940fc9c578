"""Command lines made from the settings' own dataclasses: one source for files, flags and help."""

from argparse import Action, ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import (
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_loader,
    set_parsing_settings,
)

from llmagentos.errors import SettingError
from llmagentos.recipes.complaints import explained
from llmagentos.yaml_text import read_yaml

Asked = TypeVar("Asked")

set_parsing_settings(docstring_parse_attribute_docstrings=True)
set_loader("yaml", partial(read_yaml, load=get_loader("yaml")), exceptions=(yaml.YAMLError,))


class _Help(DefaultHelpFormatter):
    """Help that lists the choices of a setting once, and names them in single quotes."""

    def _get_type_str(self, action: Action) -> str | None:
        told: str | None = super()._get_type_str(action)
        return None if told and told.startswith("Literal[") else told

    def _get_help_string(self, action: Action) -> str:
        told: str = super()._get_help_string(action)
        return told.replace("``", "'")


_HERE = Path(__file__).parent
SHIPPED = next(f for f in (_HERE / "settings", _HERE.parents[1] / "recipes") if f.is_dir())
"""The settings files: in an installed package beside the programs, else the repository's own."""


def parser_for(
    settings: type, program: str, description: str, defaults: Mapping[str, Any] | None = None
) -> ArgumentParser:
    """A parser whose flags, help and ``--config`` files are the fields of a dataclass."""
    parser = ArgumentParser(
        prog=program if program.endswith(".py") else f"python -m llmagentos.recipes.{program}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Help,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
    )
    parser.add_argument(
        "--config", action="config", help="Settings file, or the name of a shipped one; goes first."
    )
    parser.add_class_arguments(settings)
    parser.set_defaults(dict(defaults or {}))
    return parser


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """The parsed words, dashes in names read as underscores.

    Raises ``SettingError`` that names an unknown setting's nearest neighbour, or the wrong value.
    """
    flags = set(parser._option_string_actions)  # noqa: SLF001
    try:
        return parser.parse_args(list(_located(_spelled(words, flags))))
    except ArgumentError as error:
        raise SettingError(explained(str(error), flags)) from None
    except UnicodeDecodeError as error:
        raise SettingError(f"--config: the file is not UTF-8 ({error}); save it as UTF-8") from None


def read_words(kind: type[Asked], parser: ArgumentParser, words: Sequence[str]) -> Asked:
    """The settings of a kind that the words ask for; further flags of the parser are left out."""
    return instantiated(kind, parser, parse(parser, words))


def instantiated(kind: type[Asked], parser: ArgumentParser, asked: Namespace) -> Asked:
    """The settings of a kind that were parsed; what else was is left out."""
    made = parser.instantiate(asked)
    return kind(**{item.name: getattr(made, item.name) for item in fields(kind)})  # type: ignore[arg-type]


def _spelled(words: Sequence[str], flags: set[str]) -> Iterator[str]:
    """The words with ``--dry-run`` for ``--dry_run`` and the like, whichever the parser knows."""
    for word in words:
        name, equals, value = word.partition("=")
        known = next((flag for flag in flags if _plain(flag) == _plain(name)), name)
        yield (known if word.startswith("--") else name) + equals + value


def _plain(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _located(words: Iterator[str]) -> Iterator[str]:
    """The words with the path of a shipped file where ``--config`` names one."""
    setting, before = "", ""
    for word in words:
        name, equals, value = word.partition("=")
        if name == "--config" and setting:
            raise SettingError(f"--config after {setting} would undo it; put --config first")
        if before == "--config" or (name == "--config" and equals):
            file = str(_settings_file(value if equals else word))
            yield f"--config={file}" if equals else file
        else:
            yield word
        known = name.startswith("--") and name != "--config" and name not in ABOUT_THE_RUN
        setting, before = (name if known else setting), word


ABOUT_THE_RUN = {"--name", "--out", "--resume", "--dry-run", "--compare", "--help"}
"""Flags that no settings file holds, so that they may stand before ``--config``."""


def _settings_file(name: str) -> Path:
    """The file itself; a bare name, or one in ``recipes/``, may be a shipped file's."""
    path = Path(name)
    shipped = SHIPPED / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.is_file():
        return path
    if shipped.is_file() and str(path.parent) in (".", "recipes"):
        return shipped
    known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
    raise SettingError(f"--config={name!r}: no such file; shipped ones: {known}")
