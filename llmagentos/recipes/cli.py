"""Command lines made from the settings' own dataclasses: one source for files, flags and help."""

import difflib
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from llmagentos.errors import SettingError

Asked = TypeVar("Asked")

set_parsing_settings(docstring_parse_attribute_docstrings=True)

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
        raise SettingError(_explained(str(error), flags)) from None
    except UnicodeDecodeError as error:
        raise SettingError(f"--config: the file is not UTF-8 ({error}); save it as UTF-8") from None


def read_words(kind: type[Asked], parser: ArgumentParser, words: Sequence[str]) -> Asked:
    """The settings of a kind that the words ask for; further flags of the parser are left out."""
    made = parser.instantiate(parse(parser, words))
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
            file = str(_settings_file(value or word))
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


def _explained(message: str, flags: set[str]) -> str:
    """The parser's complaint as one sentence with the nearest known name."""
    names = sorted(flag.lstrip("-") for flag in flags)
    unknown = re.search(r"unrecognized arguments: --?([^\s=]+)", message)
    inside = re.search(r"Group '([^']+)' does not accept option '([^']+)'", message)
    outside = re.search(r"Option '([^']+)' is not accepted", message)
    if found := unknown or inside or outside:
        return _unknown(".".join(found.groups()), names)
    wrong = re.search(r'[Kk]ey "([^"]+)":\s*(.*)', message, re.DOTALL)
    if wrong:
        return f"{wrong[1]}: {_plainly(' '.join(wrong[2].split()))}"
    return " ".join(message.split())


def _plainly(complaint: str) -> str:
    """The complaint without the names of Python's types."""
    named = re.sub(r"<class '([^']+)'>", r"\1", complaint)
    return re.sub(r"a typing\.Literal\[([^\]]+)\]", r"one of \1", named)


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "see --help"
    return f"unknown setting {name}; {hint}"
