"""The coordinator's list of enrolled agents: a YAML file that people read and sign off."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmagentos.errors import SettingError
from llmagentos.fields import is_name, is_number
from llmagentos.files import write_durably
from llmagentos.identity.keys import key_of, name_of
from llmagentos.messages import Enrolled
from llmagentos.yaml_text import read_yaml

log = logging.getLogger(__name__)

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
        said = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise SettingError(f"roster {path}: {error.strerror}; enrol an agent first") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"roster {path} is not YAML: {error}") from None
    except SettingError as error:
        raise SettingError(f"roster {path}: {error}") from None
    if not isinstance(said, dict):
        raise SettingError(f"roster {path}: needs a name, a key and the rows of each agent")
    return _members(path, said)


class RosterFile:
    """A list that is read again when its file has changed.

    Whoever was not on it, or revoked, when it was first read stays out until the next start. A file
    that is broken leaves the list as it was, and the log says so until it is mended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _stamp(path)
        self.members = read_roster(path)
        self._known = {name for name, member in self.members.items() if not member.revoked}

    def renewed(self) -> dict[str, Member]:
        """The members as the file has them at this moment."""
        seen = _stamp(self.path)
        if seen != self._seen:
            try:
                self.members = self._of_those_known(read_roster(self.path))
                self._seen = seen
            except SettingError as error:
                log.error("%s is broken: %s; the list of before stays in force", self.path, error)
        return self.members

    def _of_those_known(self, members: Mapping[str, Member]) -> dict[str, Member]:
        """The members that were let in at the start; the log names those who have gone and come."""
        here = {name for name, member in members.items() if not member.revoked}
        for name in sorted(self._known - here):
            log.warning("agent %r is revoked and takes part no more", name)
        for name in sorted(here - self._known):
            log.warning("agent %r takes part from the next start of the coordinator on", name)
        return {name: member for name, member in members.items() if name in self._known}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What differs when a file was written to or replaced; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


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
    if not is_name(name):
        raise SettingError(f"{where}: a name is text; put it in quotes")
    if not isinstance(said, dict) or not set(said) <= set(Member.__dataclass_fields__):
        raise SettingError(f"{where}: has key, examples, tokens and revoked, not {repr(said)[:80]}")
    key = name_of(key_of(said.get("key", "")))
    for count in ("examples", "tokens"):
        if not is_number(said.get(count)) or said[count] <= 0:
            raise SettingError(f"{where}: {count}={said.get(count)!r}: needs a number above 0")
    if not isinstance(said.get("revoked", False), bool):
        raise SettingError(f"{where}: revoked={said['revoked']!r}: needs true or false")
    return Member(**said | {"key": key})


def _check_distinct(path: Path, members: Mapping[str, Member]) -> None:
    """Two names for one key would let one agent count twice."""
    owners: dict[str, str] = {}
    for name, member in members.items():
        other = owners.setdefault(member.key, name)
        if other != name:
            raise SettingError(f"roster {path}: {other!r} and {name!r} have the same key")
