"""Flower's own command line, asked from a program."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmagentos.engines.flower.program import installed

WAIT_S = 60
"""How long it may take to answer."""


class CommandLine:
    """``flwr`` with a home of its own, in which the SuperLink is called ``here``."""

    def __init__(
        self, home: Path, reached: str, authority: Path, settings: Mapping[str, str]
    ) -> None:
        self.settings = {**os.environ, **settings}
        lines = ["[superlink]", 'default = "here"', "[superlink.here]"]
        lines += [f"address = {json.dumps(reached)}"]
        lines += [f"root-certificates = {json.dumps(str(authority))}"]
        (home / "config.toml").write_text("\n".join(lines) + "\n")

    def register(self, key: Path) -> str:
        """The id of the node that has a public key, which the SuperLink lets in from here on."""
        return str(self("supernode", "register", str(key.absolute()), "here")["node-id"])

    def run(self, app: Path) -> str:
        """The id of a run of the app in a folder."""
        return str(self("run", str(app), "here")["run-id"])

    def __call__(self, *words: str) -> dict[str, Any]:
        """What it answers; ``ConnectionError`` where it fails, or takes longer than ``WAIT_S``."""
        try:
            done = subprocess.run(  # noqa: S603
                [installed("flwr"), *words, "--format", "json"],
                env=self.settings,
                capture_output=True,
                text=True,
                timeout=WAIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConnectionError(f"flwr {words[0]}: no answer within {WAIT_S} s") from None
        found = _json_in(done.stdout)
        if done.returncode or not found.get("success"):
            raise ConnectionError(f"flwr {words[0]}: {(done.stderr or done.stdout).strip()}")
        return found


def _json_in(told: str) -> dict[str, Any]:
    """The JSON object at the end of what was told; empty where there is none."""
    _, brace, rest = told.partition("{")
    try:
        found: dict[str, Any] = json.loads(brace + rest)
    except ValueError:
        return {}
    return found
