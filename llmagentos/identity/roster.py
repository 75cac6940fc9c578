"""The coordinator's list of enrolled agents: a YAML file that people read and sign off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmagentos.errors import SettingError
from llmagentos.fields import is_number, is_text
from llmagentos.files import write_durably
from llmagentos.identity.keys import key_of
from llmagentos.messages import Enrolled

FIRST_LINE = "# Agents that may take part. A revoked one stays in the list, so that it stays out.\n"


@dataclass(frozen=True)
class Member:
    """An enrolled agent: its public key as hex digits, and how much it declared."""

    key: str
    examples: float
    tokens: float
    revoked: bool = False

    @property
    def enrolled(self) -> Enrolled:
        """How much the agent may weigh."""
        return Enrolled(self.examples, self.tokens)


def read_roster(path: Path) -> dict[str, Member]:
    """Name to member, in the order of the file.

    Raises ``SettingError`` that names the agent and what is wrong with it.
    """
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingError(f"roster {path}: {error.strerror}; enrol an agent first") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"roster {path} is not YAML: {error}") from None
    if not isinstance(said, dict):
        raise SettingError(f"roster {path}: needs a name, a key and the rows of each agent")
    return _members(path, said)


def write_roster(path: Path, members: Mapping[str, Member]) -> None:
    """The file says who is enrolled; readers meet the old list or the new one.

    Raises ``SettingError`` for a list that could not be read again, and leaves the old one.
    """
    said = {name: vars(member) for name, member in members.items()}
    _members(path, said)
    text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    write_durably(path, (FIRST_LINE + text).encode())


def _members(path: Path, said: Mapping[Any, Any]) -> dict[str, Member]:
    where = f"roster {path}, agent"
    members = {name: _member(f"{where} {name!r}", name, of) for name, of in said.items()}
    _check_distinct(path, members)
    return members


def _member(where: str, name: Any, said: Any) -> Member:
    """The member that a line of the file describes."""
    if not (is_text(name) and name.strip()):
        raise SettingError(f"{where}: a name is text; put it in quotes")
    if not isinstance(said, dict) or not set(said) <= set(Member.__dataclass_fields__):
        raise SettingError(f"{where}: has key, examples, tokens and revoked, not {said!r}")
    key_of(said.get("key", ""))
    for count in ("examples", "tokens"):
        if not is_number(said.get(count)) or said[count] <= 0:
            raise SettingError(f"{where}: {count}={said.get(count)!r}: needs a number above 0")
    if not isinstance(said.get("revoked", False), bool):
        raise SettingError(f"{where}: revoked={said['revoked']!r}: needs true or false")
    return Member(**said)


def _check_distinct(path: Path, members: Mapping[str, Member]) -> None:
    """Two names for one key would let one agent count twice."""
    owners: dict[str, str] = {}
    for name, member in members.items():
        other = owners.setdefault(member.key.lower(), name)
        if other != name:
            raise SettingError(f"roster {path}: {other!r} and {name!r} have the same key")
