"""Every benchmark that this machine can run, and their tables in RESULTS.md.

    python benchmarks/run.py [--quick] [--only SCRIPT ...] [--flower-python PATH] ...

A script that runs replaces its own sections of RESULTS.md; the others stay as they were. --quick
takes small sizes, to see that all of it works, and prints without writing.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
MISSING = "## What has not run"
KERNEL_PEERS = ("--flower-python", "--nvflare-python")


@dataclass(frozen=True)
class Section:
    """A script with its words, what makes it quick, and the flags of the peers that it takes.

    One that nothing makes quick is left out of a quick run.
    """

    script: str
    words: str = ""
    quick: str | None = None
    peers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The command as the section's heading has it."""
        return f"## `{' '.join([f'{self.script}.py', *self.words.split()])}`"


SECTIONS = (
    Section("average", "", "--agents 4 --values 100000 --repeats 2", KERNEL_PEERS),
    Section("twins", "", "--values 100000 --repeats 2"),
    Section("robust", "", "--agents 10 --values 100000 --repeats 2", KERNEL_PEERS[:1]),
    Section("memory", "", "--agents 8 --timed-agents 4 --values 1000000 --repeats 1"),
    Section("svd", "--dense"),
    Section("round", "--threads 2", "--repeats 1", ("--peers",)),
    Section("round", "--threads 2 --model smollm2", None, ("--peers",)),
    Section("growth", "--threads 2 --largest"),
    Section("growth", "--threads 2 --plot docs/cohort.png"),
    Section("asynchrony", "", ""),
    Section("quantized", "", "--steps 1"),
    Section("lora_methods", "--table"),
    Section("engines", "--model tiny --rounds 4", "--rounds 2 --names processes"),
    Section("engines", "--model smollm2 --steps 2 --rounds 3"),
    Section("engines", "--values 10000000 --rounds 3 --names flower plain_one"),
    Section("carriage", "", "--megabytes 0.01 --repeats 1"),
    Section("flower_memory", "--agents 4 16", "--agents 2 --rounds 1"),
    Section("flower_memory", "--agents 4 16 --values 2500000"),
    Section("gpu", "", ""),
)


def table_of(section: Section, asked: argparse.Namespace) -> str:
    """What the script prints; it ends the command if it fails."""
    words = [*section.words.split(), *((section.quick or "").split() if asked.quick else [])]
    words += [word for flag in section.peers for word in given(flag, asked)]
    command = [sys.executable, str(HERE / f"{section.script}.py"), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE.parent)
    return done.stdout.strip()


def given(flag: str, asked: argparse.Namespace) -> list[str]:
    """A peer's interpreter as words of a command line; none where it was not given."""
    python = getattr(asked, flag.strip("-").replace("-", "_"))
    return [flag, str(python.absolute())] if python else []


def with_section(text: str, title: str, table: str) -> str:
    """The text with that section replaced, or with one more before what is missing."""
    before, found, rest = text.partition(f"{title}\n")
    if not found:
        measured, missing, rest = text.partition(MISSING)
        return f"{measured.rstrip()}\n\n{title}\n\n{table}\n\n{missing}{rest}"
    _, following, after = rest.partition("\n## ")
    return f"{before}{title}\n\n{table}\n{following}{after}"


def main() -> None:
    """Runs, prints, and writes what was run in full."""
    scripts = list(dict.fromkeys(section.script for section in SECTIONS))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Small sizes; nothing is written.")
    parser.add_argument("--only", nargs="+", choices=scripts, default=scripts)
    parser.add_argument("--flower-python", type=Path, help="Of an environment with Flower.")
    parser.add_argument("--nvflare-python", type=Path, help="Of an environment with NVFlare.")
    parser.add_argument("--peers", type=Path, help="Of an environment with the peers of round.py.")
    asked = parser.parse_args()
    for section in SECTIONS:
        if section.script not in asked.only or (asked.quick and section.quick is None):
            continue
        table = table_of(section, asked)
        print(f"{section.title}\n\n{table}\n", flush=True)
        if not asked.quick:
            RESULTS.write_text(with_section(RESULTS.read_text(), section.title, table))


if __name__ == "__main__":
    main()
