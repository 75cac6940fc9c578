"""A wire file: safetensors with 1-D tensors and one metadata key of canonical JSON.

One key only, since several are written in random order and equal content has to have equal
bytes. Reading trusts nothing: sizes are checked before anything is used, and no value is copied.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from llmagentos.errors import Damaged

KEY = "llmagentos"
LARGEST_HEADER_BYTES = 4 << 20
"""Of a wire file; that of a task takes about 170 bytes for each tensor of the adapter."""
TYPES = {
    "F32": np.dtype("<f4"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U32": np.dtype("<u4"),
}

Vectors = dict[str, NDArray[Any]]


def pack(header: Mapping[str, Any], vectors: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a wire file; equal content gives equal bytes."""
    return safetensors.numpy.save(dict(vectors), metadata={KEY: _canonical(header)})


def pack_file(path: Path, header: Mapping[str, Any], vectors: Mapping[str, NDArray[Any]]) -> None:
    """``path`` holds the bytes of ``pack``, which are in memory at no time."""
    safetensors.numpy.save_file(dict(vectors), path, metadata={KEY: _canonical(header)})


def _canonical(header: Mapping[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)


def unpack(body: Any) -> tuple[dict[str, Any], Vectors]:
    """Header and vectors of a wire file; the vectors are read-only views of ``body``.

    ``body`` is anything with a buffer, such as bytes or a memory map.
    Raises ``Damaged`` when the bytes are not exactly such a file.
    """
    view = memoryview(body).cast("B").toreadonly()
    entries, start = _entries(view)
    header = _header(entries.pop("__metadata__", None))
    vectors: Vectors = {}
    end = start
    for name, entry in sorted(entries.items(), key=lambda item: _begin(item[1])):
        vectors[name], end = _vector(view, name, entry, start, end)
    if end != len(view):
        raise Damaged(f"{len(view) - end} bytes follow the last vector")
    return header, vectors


def _entries(view: memoryview) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(view[:8], "little")
    if length > min(len(view) - 8, LARGEST_HEADER_BYTES):
        raise Damaged(f"not a wire file: {len(view)} bytes with a header of {length}")
    entries = _json(bytes(view[8 : 8 + length]), "the safetensors header")
    return entries, 8 + length


def _json(text: bytes | str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{what} is not a JSON object")
    return value


def _header(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict) or set(metadata) != {KEY}:
        raise Damaged(f"the metadata does not hold the single key {KEY!r}")
    if not isinstance(metadata[KEY], str):
        raise Damaged(f"the metadata under {KEY!r} is not text")
    return _json(metadata[KEY], f"the metadata under {KEY!r}")


def _begin(entry: Any) -> int:
    match entry:
        case {"dtype": str(), "shape": [int()], "data_offsets": [int(begin), int()], **rest}:
            if not rest:
                return begin
    raise Damaged(f"not a 1-D tensor: {ascii(entry)[:80]}")


def _vector(
    view: memoryview, name: str, entry: dict[str, Any], start: int, end: int
) -> tuple[NDArray[Any], int]:
    kind = TYPES.get(entry["dtype"])
    if kind is None:
        raise Damaged(
            f"vector {name[:80]!r} has type {entry['dtype'][:16]!r}; known: {', '.join(TYPES)}"
        )
    (count,), (begin, stop) = entry["shape"], entry["data_offsets"]
    fits = start + begin == end and stop - begin == count * kind.itemsize
    if not fits or count < 0 or start + stop > len(view):
        place = f"{begin}:{stop}"[:80]
        raise Damaged(f"vector {name[:80]!r} lies at {place}, which does not fit the file")
    return np.frombuffer(view, kind, count, start + begin), start + stop
