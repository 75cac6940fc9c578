"""Who is who: keys, signed envelopes, and the list of enrolled agents."""

from llmagentos.identity.envelope import Header, Sealed, open_sealed, seal
from llmagentos.identity.keys import (
    PrivateKey,
    PublicKey,
    key_of,
    name_of,
    new_key,
    read_key,
    write_key,
)
from llmagentos.identity.roster import Member, RosterFile, read_roster, write_roster

__all__ = [
    "Header",
    "Member",
    "PrivateKey",
    "PublicKey",
    "RosterFile",
    "Sealed",
    "key_of",
    "name_of",
    "new_key",
    "open_sealed",
    "read_key",
    "read_roster",
    "seal",
    "write_key",
    "write_roster",
]
