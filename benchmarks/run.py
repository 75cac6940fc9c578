"""Every benchmark that this machine can run, and their tables in RESULTS.md.

    python benchmarks/run.py [--quick] [--only SCRIPT | SECTION ...] [--flower-python PATH] ...

A script that runs replaces its own sections of RESULTS.md; the others stay as they were. The
targets there and the table of README.md follow. --results names another file, as that of another
processor. --quick takes small sizes, to see that all of it
works, and prints without writing.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import targets
from sections import of_command, with_section

HERE = Path(__file__).parent
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
    def command(self) -> str:
        """As the section's heading has it."""
        return " ".join([f"{self.script}.py", *self.words.split()])


SECTIONS = (
    Section("average", "--threads 1", "--agents 4 --values 100000 --repeats 2", KERNEL_PEERS),
    Section("average", "--threads 2", "--agents 4 --values 100000 --repeats 2", KERNEL_PEERS),
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
    Section("flower_memory", "--agents 4 16 64", "--agents 2 --rounds 1"),
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


def main() -> None:
    """Runs, prints, and writes what was run in full."""
    names = [name for section in SECTIONS for name in (section.script, section.command)]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Small sizes; nothing is written.")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help="Scripts (average), or sections by their titles ('average.py --threads 1').",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=targets.RESULTS,
        help="Where the tables go, for another processor than that of RESULTS.md.",
    )
    parser.add_argument("--flower-python", type=Path, help="Of an environment with Flower.")
    parser.add_argument("--nvflare-python", type=Path, help="Of an environment with NVFlare.")
    parser.add_argument("--peers", type=Path, help="Of an environment with the peers of round.py.")
    asked = parser.parse_args()
    for section in SECTIONS:
        if not {section.script, section.command} & set(asked.only):
            continue
        if asked.quick and section.quick is None:
            continue
        heading, table = of_command(section.command), table_of(section, asked)
        print(f"{heading}\n\n{table}\n", flush=True)
        if not asked.quick:
            file = asked.results
            results = file.read_text() if file.exists() else f"# Results\n\n{targets.HEADING}\n"
            file.write_text(with_section(results, heading, table))
            targets.write(file)


if __name__ == "__main__":
    main()
