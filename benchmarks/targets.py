"""What was measured beside what was aimed at: written from the sections of RESULTS.md.

    python benchmarks/targets.py

Writes "Against the targets" in RESULTS.md and in the results of other processors, RESULTS-*.md, and
the table of README.md. Every number comes from a section that a script wrote; what has no such
number says so. `run.py` does the same at its end.
"""

from pathlib import Path

from measures import AVERAGE
from page_faults import MANY, page_faults
from sections import of_command, section, with_section
from target_kernels import OTHER_LINES, PEER_LINES, SPEED_LINES
from target_rounds import GPU_LINES, README_LINES, ROUND_LINES
from verdicts import Line

RESULTS = Path(__file__).with_name("RESULTS.md")
README = RESULTS.parent.parent / "README.md"
HEADING = "## Against the targets"
START, END = "<!-- written by benchmarks/targets.py -->", "<!-- up to here -->"

HEAD = "| measure | floor | stretch | measured | verdict |\n|---|---|---|---|---|"
GROUPS: dict[str, tuple[Line, ...]] = {
    "Share of the speed at which the input is read once": SPEED_LINES,
    "How many times as long others take for the average, and errors": PEER_LINES,
    "Other kernels, and the end of a round": OTHER_LINES,
    "Rounds of training, two threads": ROUND_LINES,
    "On a GPU": GPU_LINES,
}
FAULTS = f"""### Page faults

Contenders with more than {MANY:,} page faults a run, and the share of their distance to this
library that these take, at the price of a first touch in the same run."""


def against_targets(results: str) -> str:
    """The section: who meets what, in groups, and whom page faults hold up."""
    parts = [summary(results)]
    for title, lines in GROUPS.items():
        parts.append("\n".join([f"### {title}\n\n{HEAD}", *(each.row(results) for each in lines)]))
    return "\n\n".join([*parts, FAULTS, page_faults(results)])


def summary(results: str) -> str:
    """How many numbers reach what."""
    lines = [each for group in GROUPS.values() for each in group]
    found = [grade for each in lines for grade in each.grades(results).values()]
    aimed = sum(case.targets is not None for each in lines for case in each.cases)
    stretch, short = found.count("stretch"), found.count("short")
    return (
        f"Of {aimed} numbers that have a floor, {len(found)} were measured: {stretch} reach the "
        f"stretch, too, {len(found) - stretch - short} the floor alone, {short} neither."
    )


def readme_table(results: str) -> str:
    """The lines that README.md shows, and what the averages ran on."""
    rows = (f"| {each.measure} | {each.measured(results)} |" for each in README_LINES)
    return "\n".join(["| | |\n| --- | --- |", *rows, "", machine(results)]).rstrip()


def machine(results: str) -> str:
    """Where the averages were measured, with versions: the first line of their section."""
    told = section(results, of_command(AVERAGE[1])).partition("\n")[0]
    return f"Averages: {told}" if told else ""


def between_marks(text: str, table: str) -> str:
    """The text with the table between the marks replaced."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    assert end, f"README.md has no place for the results: {START} ... {END}"
    return f"{before}{start}\n\n{table}\n\n{end}{after}"


def write(file: Path = RESULTS) -> None:
    """Both tables, from a file of results as it is; README.md has those of RESULTS.md."""
    results = file.read_text()
    file.write_text(with_section(results, HEADING, against_targets(results)))
    if file.resolve() == RESULTS.resolve():
        README.write_text(between_marks(README.read_text(), readme_table(results)))


if __name__ == "__main__":
    for each in RESULTS.parent.glob("RESULTS*.md"):
        write(each)
