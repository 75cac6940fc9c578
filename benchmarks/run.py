"""Every benchmark that this machine can run, and their tables in RESULTS.md.

    python benchmarks/run.py [--quick] [--only NAME ...] [--flower-python PATH] ...

A script that runs replaces its own section of RESULTS.md; the others stay as they were. --quick
takes small sizes, to see that all of it works, and prints without writing.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
MISSING = "## What has not run"

SCRIPTS = {
    "average": ["--agents", "4", "--values", "100000", "--repeats", "2"],
    "twins": ["--values", "100000", "--repeats", "2"],
    "memory": ["--agents", "8", "--timed-agents", "4", "--values", "1000000", "--repeats", "1"],
    "asynchrony": [],
    "robust": ["--agents", "10", "--values", "100000", "--repeats", "2"],
    "round": ["--repeats", "1"],
    "gpu": [],
}
"""A script, and what makes it quick."""

PEERS = {"average": ("--flower-python", "--nvflare-python"), "robust": ("--flower-python",)}
"""The peers that a script asks for."""


def present() -> list[str]:
    """The scripts that lie here."""
    return [name for name in SCRIPTS if (HERE / f"{name}.py").exists()]


def table_of(name: str, asked: argparse.Namespace) -> str:
    """What the script prints; it ends the command if it fails."""
    words = SCRIPTS[name] if asked.quick else []
    words = [*words, *(word for flag in PEERS.get(name, ()) for word in given(flag, asked))]
    command = [sys.executable, str(HERE / f"{name}.py"), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def given(flag: str, asked: argparse.Namespace) -> list[str]:
    """A peer's interpreter as words of a command line; none where it was not given."""
    python = getattr(asked, flag.strip("-").replace("-", "_"))
    return [flag, str(python)] if python else []


def with_section(text: str, name: str, table: str) -> str:
    """The text with that script's section replaced, or with one more before what is missing."""
    title = f"## `{name}.py`"
    before, found, rest = text.partition(f"{title}\n")
    if not found:
        measured, missing, rest = text.partition(MISSING)
        return f"{measured.rstrip()}\n\n{title}\n\n{table}\n\n{missing}{rest}"
    _, following, after = rest.partition("\n## ")
    return f"{before}{title}\n\n{table}\n{following}{after}"


def main() -> None:
    """Runs, prints, and writes what was run in full."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=present(), default=present())
    parser.add_argument("--flower-python", type=Path)
    parser.add_argument("--nvflare-python", type=Path)
    asked = parser.parse_args()
    for name in asked.only:
        table = table_of(name, asked)
        print(f"## {name}\n\n{table}\n", flush=True)
        if not asked.quick:
            RESULTS.write_text(with_section(RESULTS.read_text(), name, table))


if __name__ == "__main__":
    main()
