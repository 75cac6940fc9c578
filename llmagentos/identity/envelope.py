"""Signed envelopes: a header of canonical JSON, an Ed25519 signature over it, and the payload.

    magic 8 | header's length 4, little endian | header | signature 64 | payload

The header names the payload by its SHA-256, so the signature covers all of it. Reading trusts
nothing: lengths are checked before anything is read, and the signature before anything is believed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from llmagentos.errors import Damaged
from llmagentos.fields import fits, sane
from llmagentos.identity.keys import PrivateKey, PublicKey, is_signed, name_of

MAGIC = b"llmaos-1"
LARGEST_ENVELOPE_BYTES = 1 << 16
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class Header:
    """What an envelope is about, and between whom."""

    run: str
    round: int
    kind: str
    agent: str
    sender: str
    """Public key of who signed it."""
    recipient: str
    """Public key of whom it is for."""
    base: str
    """Hash of the base model that both have."""
    nonce: str
    """Drawn for a task, and repeated by its answer."""
    weight: float
    """What an answer counts for; 0 where there is none."""


class Sealed(NamedTuple):
    """An envelope whose signature and payload were found right."""

    header: Header
    payload: memoryview
    digest: str
    """SHA-256 of the payload."""


_TYPES: dict[str, Any] = {field.name: field.type for field in fields(Header)} | {"payload": str}


def seal(header: Header, payload: bytes, key: PrivateKey) -> bytes:
    """The envelope; equal content gives equal bytes."""
    said = asdict(header) | {"payload": hashlib.sha256(payload).hexdigest()}
    text = _canonical(said)
    signature = key.sign(MAGIC + text)
    return b"".join((MAGIC, len(text).to_bytes(4, "little"), text, signature, payload))


def open_sealed(body: bytes, sender: PublicKey, recipient: PublicKey, largest_bytes: int) -> Sealed:
    """What ``sender`` sealed for ``recipient``; the payload is a view of ``body``.

    Raises ``Damaged`` with the reason for anything else, or for more than ``largest_bytes``.
    """
    if len(body) > largest_bytes:
        raise Damaged(f"{len(body)} bytes are more than the {largest_bytes} that it may have")
    view = memoryview(body).cast("B").toreadonly()
    text, signature, payload = _parts(view)
    if not is_signed(MAGIC + text, signature, sender):
        raise Damaged("it is not signed by the key that was agreed on")
    said = _fields(text)
    digest = hashlib.sha256(payload).hexdigest()
    if said.pop("payload") != digest:
        raise Damaged("its payload is not the one that was signed")
    if (said["sender"], said["recipient"]) != (name_of(sender), name_of(recipient)):
        raise Damaged("it is from or for somebody else")
    return Sealed(Header(**said), payload, digest)


def _parts(view: memoryview) -> tuple[bytes, bytes, memoryview]:
    """Header, signature and payload of what at least looks like an envelope."""
    start = len(MAGIC) + 4
    if view[: len(MAGIC)] != MAGIC:
        raise Damaged(f"not an envelope: {bytes(view[:120])!r}")
    length = int.from_bytes(view[len(MAGIC) : start], "little")
    end = start + length + SIGNATURE_BYTES
    if length > LARGEST_ENVELOPE_BYTES or end > len(view):
        raise Damaged(f"an envelope of {len(view)} bytes cannot have a header of {length}")
    return bytes(view[start : start + length]), bytes(view[start + length : end]), view[end:]


def _fields(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged("its header is not JSON") from None
    known = isinstance(said, dict) and sane(said) and fits(said, _TYPES)
    if not known or _canonical(said) != text:
        raise Damaged(f"its header is not that of an envelope: {ascii(said)[:120]}")
    return dict(said)


def _canonical(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
