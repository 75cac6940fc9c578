"""The wire file of a task."""

from dataclasses import asdict
from typing import Any

import numpy as np

from llmagentos.codecs import pack, unpack
from llmagentos.codecs.container import LARGEST_HEADER_BYTES
from llmagentos.errors import Damaged
from llmagentos.fields import fits, is_count, is_number, is_text, sane
from llmagentos.layout import Layout, LoraPair
from llmagentos.messages import ADDRESS, KINDS, Task
from llmagentos.settings.checks import require

_TASK = ADDRESS | {"layout": dict, "seed": int, "settings": dict}


def encode_task(task: Task) -> bytes:
    """The wire file of a task; equal tasks have equal bytes.

    Raises ``SettingError`` for an adapter of more tensors than a header has room for.
    """
    said = {name: getattr(task, name) for name in (*_TASK, "receipt")}
    body = pack(said | {"layout": asdict(task.layout)}, task.vectors)
    length = int.from_bytes(body[:8], "little")
    remedy = f"{length} bytes tell of its tensors, {LARGEST_HEADER_BYTES} may; adapt fewer layers"
    fits_in = length <= LARGEST_HEADER_BYTES
    require(fits_in, "lora.target_modules", f"{len(task.layout.names)} tensors", remedy)
    return body


def decode_task(body: Any) -> Task:
    """The task in a wire file; its vectors are read-only views of ``body``.

    Raises ``Damaged`` when the bytes are not exactly a task. What it asks is not checked here.
    """
    said, vectors = unpack(body)
    receipt = said.pop("receipt", -1)
    known = receipt is None or is_count(receipt)
    if not (known and sane(said) and fits(said, _TASK) and said["kind"] in KINDS):
        raise Damaged(f"not a task: {ascii(said)[:120]}")
    wide = [name for name, vector in vectors.items() if vector.dtype != np.float32]
    if wide:
        raise Damaged(f"the task's vector {wide[0][:80]!r} is {vectors[wide[0]].dtype}")
    layout = _layout(said.pop("layout"))
    return Task(**said, vectors=vectors, layout=layout, receipt=receipt)


def _layout(said: dict[str, Any]) -> Layout:
    """The layout that a JSON object describes; nothing in it is left unchecked."""
    match said:
        case {"names": list(names), "shapes": list(shapes), "pairs": list(pairs), **rest}:
            distinct = all(map(is_text, names)) and len(set(names)) == len(names)
            good = distinct and len(names) == len(shapes) and not rest
            if good and all(map(_is_shape, shapes)) and all(map(_is_pair, pairs)):
                known = tuple(LoraPair(**pair) for pair in pairs)
                return Layout(tuple(names), tuple(map(tuple, shapes)), known)
    raise Damaged(f"not a layout: {ascii(said)[:120]}")


def _is_shape(said: Any) -> bool:
    return isinstance(said, list) and all(map(is_count, said))


def _is_pair(said: Any) -> bool:
    match said:
        case {"a": a, "b": b, "rank": rank, "alpha": alpha, "scale": scale, **rest}:
            numbers = is_number(alpha) and is_number(scale)
            return is_text(a) and is_text(b) and is_count(rank) and numbers and not rest
    return False
