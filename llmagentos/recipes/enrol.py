"""Keys, and the list of who may take part: ``python -m llmagentos.recipes.enrol``."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from llmagentos.errors import SettingError
from llmagentos.recipes.cli import parser_for, read_words
from llmagentos.recipes.exits import exit_code
from llmagentos.settings.checks import require


@dataclass(frozen=True)
class KeyRequest:
    """A key to be made."""

    file: str = "agent.key"
    """File of the private key, which must not exist; it never leaves the house."""


@dataclass(frozen=True)
class NodeRequest:
    """A key by which a SuperLink lets an agent's node in."""

    file: str = "node.key"
    """File of the private key, made unless it is there; the public half is written beside it."""


@dataclass(frozen=True)
class CertificatesRequest:
    """A coordinator's certificate, vouched for by an authority of its own."""

    hosts: list[str] = field(default_factory=lambda: ["localhost", "127.0.0.1"])
    """Names and addresses by which agents dial the coordinator."""
    folder: str = "certificates"
    """Folder of ``ca.pem``, which is for every agent, ``server.pem`` and ``server.key``."""


@dataclass(frozen=True)
class AddRequest:
    """An agent to be enrolled, by what it told about itself."""

    name: str = ""
    """What the agent is called, in the list and in every report."""
    key: str = ""
    """Its public key, as ``enrol key`` printed it at the agent's."""
    examples: int = 0
    """Its training rows; no update of it may weigh more."""
    tokens: int = 0
    """Their target tokens, where updates are weighted by tokens."""
    roster: str = "roster.yaml"
    """File of the list."""


@dataclass(frozen=True)
class UpdateRequest:
    """An enrolled agent that has other rows than it told, or counted them wrongly."""

    name: str = ""
    """The agent."""
    examples: int = 0
    """Its training rows; 0 leaves what the list says."""
    tokens: int = 0
    """Their target tokens; 0 leaves what the list says."""
    roster: str = "roster.yaml"
    """File of the list."""


@dataclass(frozen=True)
class ListRequest:
    """A list to be shown."""

    roster: str = "roster.yaml"
    """File of the list."""


@dataclass(frozen=True)
class RevokeRequest:
    """An agent to be kept out from the coordinator's next round on."""

    name: str = ""
    """The agent."""
    roster: str = "roster.yaml"
    """File of the list."""


def make_key(asked: KeyRequest) -> None:
    """Write a key, and print its public half."""
    from llmagentos.identity import name_of, new_key, write_key

    key = new_key()
    write_key(Path(asked.file), key)
    print(f"{asked.file} holds the private key: keep it where it is")
    print(f"public key, for the others: {name_of(key)}")


def make_node(asked: NodeRequest) -> None:
    """Write the key of an agent's node, whose public half the coordinator needs too."""
    from llmagentos.engines.flower.certificates import make_node_key

    public = make_node_key(Path(asked.file))
    print(f"{asked.file} holds the private key; send {public} to the coordinator")


def make_certificate(asked: CertificatesRequest) -> None:
    """Write the certificate of a coordinator without a public one, and its authority's."""
    from llmagentos.engines.flower.certificates import make_certificates

    folder = Path(asked.folder)
    remedy = "has certificates already; move them away first, or name another folder"
    require(not (folder / "ca.pem").exists(), "folder", asked.folder, remedy)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_certificates(folder, asked.hosts)
    print(f"{folder / 'ca.pem'} is for every agent; what else is in {folder} stays here")


def add(asked: AddRequest) -> None:
    """Put an agent on the list, which is made if there is none."""
    from llmagentos.identity import Member, read_roster, write_roster

    path = Path(asked.roster)
    with _alone(path):
        members = read_roster(path) if path.exists() else {}
        if asked.name in members:
            raise SettingError(
                f"name={asked.name!r}: is in {path} already; update it, or take another"
            )
        member = Member(asked.key, asked.examples, asked.tokens or asked.examples)
        write_roster(path, members | {asked.name: member})
    print(f"{asked.name} may take part; {path} has {len(members) + 1} agents")


def update(asked: UpdateRequest) -> None:
    """Correct how much an agent may weigh; its key stays, and whether it is revoked."""
    told = {"examples": asked.examples, "tokens": asked.tokens}
    changes = {count: value for count, value in told.items() if value}
    require(bool(changes), "examples", asked.examples, "say --examples, --tokens or both")
    _change(asked, **changes)
    print(f"{asked.name} may weigh that from the coordinator's next round on, without a restart")


def show(asked: ListRequest) -> None:
    """Print the list."""
    from llmagentos.identity import read_roster

    for name, member in read_roster(Path(asked.roster)).items():
        standing = "revoked" if member.revoked else "enrolled"
        print(f"{standing:9} {name:24} {member.examples:>9,} rows  {member.key}")


def revoke(asked: RevokeRequest) -> None:
    """Keep an agent out; its line stays, so that nobody enrols it again by mistake."""
    _change(asked, revoked=True)
    print(f"{asked.name} is out from the coordinator's next round on, which needs no restart")


def _change(asked: UpdateRequest | RevokeRequest, **changes: Any) -> None:
    """The agent's line of the list says something else."""
    from llmagentos.identity import read_roster, write_roster

    path = Path(asked.roster)
    with _alone(path):
        members = read_roster(path)
        if asked.name not in members:
            known = ", ".join(members)
            raise SettingError(f"name={asked.name!r}: not in {path}; there are {known}")
        write_roster(path, members | {asked.name: replace(members[asked.name], **changes)})


@contextmanager
def _alone(roster: Path) -> Iterator[None]:
    """No other command changes the list meanwhile, or its change would be lost."""
    from filelock import FileLock

    folder = roster.parent
    require(folder.is_dir(), "roster", str(roster), f"there is no folder {folder}; make it first")
    with FileLock(folder / f".{roster.name}.lock"):
        yield


class Verb(NamedTuple):
    """What can be done: its settings, and what does it."""

    settings: type
    work: Callable[[Any], None]


VERBS = {
    "key": Verb(KeyRequest, make_key),
    "node-key": Verb(NodeRequest, make_node),
    "certificates": Verb(CertificatesRequest, make_certificate),
    "add": Verb(AddRequest, add),
    "update": Verb(UpdateRequest, update),
    "list": Verb(ListRequest, show),
    "revoke": Verb(RevokeRequest, revoke),
}
HELP = """usage: python -m llmagentos.recipes.enrol [--help] VERB [--SETTING VALUE ...]

key           make a private key, and print its public half; every agent and the coordinator has one
node-key      make the key by which the coordinator's SuperLink lets an agent's node in
certificates  make the certificate of a coordinator that has no public one
add           put an agent on the coordinator's list
update        correct how many rows and tokens an agent has
list          show the list
revoke        keep an agent out

Each has its own --help."""


def main(words: Sequence[str] | None = None) -> int:
    """Do it; the exit code is 0 done, 1 failed, 2 wrong setting."""
    return exit_code(lambda: enrol(sys.argv[1:] if words is None else words))


def enrol(words: Sequence[str]) -> None:
    """Do what the first word says, with the settings that follow."""
    if not words or words[0] in {"-h", "--help"}:
        print(HELP)
        return
    if words[0] not in VERBS:
        raise SettingError(f"{words[0]!r}: say {', '.join(VERBS)}")
    verb = VERBS[words[0]]
    parser = parser_for(verb.settings, f"enrol {words[0]}", verb.work.__doc__ or "")
    verb.work(read_words(verb.settings, parser, words[1:]))


if __name__ == "__main__":
    sys.exit(main())
