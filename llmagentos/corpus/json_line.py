"""JSON whose every name and letter counts."""

import json
from typing import Any


def read_json(line: str) -> Any:
    r"""What the line says.

    Raises ``ValueError`` where that is no JSON, too deep, or would not be kept whole: where an
    object has a name twice, or half a letter is escaped (``\ud83d`` alone), which no text can hold.
    """
    try:
        found = json.loads(line, object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\ud" in line.lower():
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name twice among {', '.join(ascii(name) for name, _ in pairs)[:80]}")
    return found
