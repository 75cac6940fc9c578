"""What an agent can sign that is not so, and the words in which it is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from llmagentos.identity import PrivateKey, open_sealed, seal
from llmagentos.messages import Update, decode, encode
from tests.faults.hostile import DAMAGES, LARGER, Caught, Tools

OUTSIDE = "../../../outside/bomb"


def spoilt(update: Update, value: float) -> Update:
    """One value of the change, or of its scales, is another."""
    name = max(update.vectors)
    values = np.array(update.vectors[name])
    values[0] = value
    return replace(update, vectors={**update.vectors, name: values})


def renamed(update: Update, name: str) -> Update:
    (_, values), *rest = update.vectors.items()
    return replace(update, vectors={name: values, **dict(rest)})


def doubled(update: Update) -> Update:
    twice = {name: np.concatenate([x, x]) for name, x in update.vectors.items()}
    return replace(update, vectors=twice)


def retyped(update: Update) -> Update:
    halves = {name: x.astype(np.float16) for name, x in update.vectors.items()}
    return replace(update, vectors=halves)


UPDATES: dict[str, tuple[Callable[[Update], Update], str]] = {
    "NaN": (lambda u: spoilt(u, np.nan), "of 300 values are not finite"),
    "infinity": (lambda u: spoilt(u, np.inf), "of 300 values are not finite"),
    "minus infinity": (lambda u: spoilt(u, -np.inf), "of 300 values are not finite"),
    "a wrong layout": (lambda u: replace(u, layout="f" * 64), "its layout is not the dispatched"),
    "a path as layout": (lambda u: replace(u, layout=OUTSIDE), "its layout is not the dispatched"),
    "too many values": (doubled, "values where its codec sends"),
    "values of another type": (retyped, "float16"),
    "no vectors": (lambda u: replace(u, vectors={}), "it holds nothing where its codec sends"),
    "weight 0": (lambda u: replace(u, weight=0.0), "weight 0 is not in (0, 1]"),
    "a negative weight": (lambda u: replace(u, weight=-1.0), "weight -1 is not in (0, 1]"),
    "a huge weight": (lambda u: replace(u, weight=1e300), "weight 1e+300 is not in (0, 1]"),
    "a weight that is no number": (lambda u: replace(u, weight=np.nan), "weight nan is not in"),
    "another round": (lambda u: replace(u, round=u.round + 1), "it answers round"),
    "another kind": (lambda u: replace(u, kind="measure"), "it answers kind 'measure'"),
    "another agent": (lambda u: replace(u, agent="else"), "it answers agent 'else'"),
    "a path as agent": (lambda u: replace(u, agent=OUTSIDE), f"it answers agent '{OUTSIDE}'"),
    "a path as run": (lambda u: replace(u, run=OUTSIDE), f"it answers run '{OUTSIDE}'"),
    "a path as vector": (lambda u: renamed(u, OUTSIDE), OUTSIDE),
}
"""Changes of an update, and words of its refusal."""


def giant_header(payload: bytes) -> bytes:
    return (1 << 62).to_bytes(8, "little") + payload[8:]


def as_header(_: bytes, tools: Tools) -> bytes:
    return len(tools.pickled).to_bytes(8, "little") + tools.pickled


def giant_vector(payload: bytes) -> bytes:
    """The vector is said to reach far beyond the file."""
    start = payload.index(b'"data_offsets":[0,') + len(b'"data_offsets":[0,')
    end = payload.index(b"]", start)
    return payload[:start] + b"9" * (end - start) + payload[end:]


def half_a_letter(payload: bytes) -> bytes:
    """Where the vector's place is told stands text that no file and no journal can hold."""
    said = rb'{"__metadata__":{"llmagentos":"{}"},"delta":"\ud800"}'
    return len(said).to_bytes(8, "little") + said + payload


PAYLOADS: dict[str, tuple[Callable[[bytes, Tools], bytes], str]] = {
    "a pickle as update": (lambda _, tools: tools.pickled, "not a wire file"),
    "a pickle where the header should be": (as_header, "the safetensors header is not JSON"),
    "a wire file whose header claims gigabytes": (lambda p, _: giant_header(p), "not a wire file"),
    "a vector that claims gigabytes": (lambda p, _: giant_vector(p), "does not fit the file"),
    "a wire file with more behind it": (lambda p, _: p + b"more", "4 bytes follow the last vector"),
    "a wire file cut short": (lambda p, _: p[:-4], "does not fit the file"),
    "text that cannot be written": (lambda p, _: half_a_letter(p), "not a 1-D tensor"),
    "an empty update": (lambda _p, _t: b"", "not a wire file: 0 bytes"),
}
"""Changes of the wire file inside a sound envelope, and words of its refusal."""

UNSEALED = dict.fromkeys(DAMAGES, "") | {
    "a header that claims gigabytes": "cannot have a header of",
    "larger than the layout allows": "bytes are more than the",
    "signed by a stranger": "not signed by the key that was agreed on",
    "signed by a stranger in its own name": "not signed by the key that was agreed on",
    "signed by a revoked agent": "not signed by the key that was agreed on",
    "signed by a revoked agent in its own name": "not signed by the key that was agreed on",
    "a pickle": "not an envelope",
    "a pickle behind an envelope's first bytes": "an envelope of",
    "a path": "not an envelope",
    "nothing": "not an envelope",
}
"""What a wire does to every answer, and words of the refusal; a bit may break anything."""

WORDS = (
    {name: words for name, (_, words) in UPDATES.items()}
    | {name: words for name, (_, words) in PAYLOADS.items()}
    | UNSEALED
)
"""Every lie, and words of its refusal."""


def told(name: str, caught: Caught, key: PrivateKey) -> bytes:
    """The answer of the owner of ``key`` with that lie in it."""
    if name in DAMAGES:
        return DAMAGES[name](caught)
    header, payload, _ = open_sealed(caught.body, caught.sender, caught.recipient, len(LARGER))
    if name in UPDATES:
        update = decode(bytes(payload))
        assert isinstance(update, Update)
        return seal(header, encode(UPDATES[name][0](update)), key)
    return seal(header, PAYLOADS[name][0](bytes(payload), caught.tools), key)
