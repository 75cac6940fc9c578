"""The tables that benchmarks/targets.py writes, held against the sections that scripts wrote."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

MEASURED = """# Results

## `average.py --threads 1`

Some processor, 2 cores; Python 3.11.7, Flower 1.41.0.

| cohort | contender | ms: median (min to max) | of limit | times ours | page faults |
|---|---|---|---|---|---|
| 4 x 8M float32, 1 thread | this library | 10.0 (9.0 to 11.0) | 89% | 1.00 | 0 |
| 4 x 8M float32, 1 thread | Flower | 110.0 (90.0 to 120.0) | 8% | 11.00 | 12,000 |
| 4 x 8M float32, 1 thread | first touch of 10,000 pages | 20.0 (19 to 21) | 9% | 2.0 | 10,000 |
| 10 x 8M float32, 1 thread | this library | 20.0 (19.0 to 21.0) | 97% | 1.00 | 0 |
| 10 x 8M bfloat16, 1 thread | this library | 10.0 (9.0 to 11.0) | 88% | 1.00 | 0 |
| 100 x 4M bfloat16, 1 thread | this library | 10.0 (9.0 to 11.0) | 121% | 1.00 | 0 |

## What has not run

The rest.
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the script, which lie in no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("measures", "run", "sections", "targets", "verdicts")
    return SimpleNamespace(**{name: __import__(name) for name in names})


def row_of(table: str, start: str) -> list[str]:
    """The cells of the only row that starts so."""
    (found,) = re.findall(rf"^\| {re.escape(start)}.*\|$", table, re.MULTILINE)
    return [cell.strip() for cell in found[1:-1].split("|")]


REMEDY = "run benchmarks/targets.py"


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("RESULTS*.md")), ids=lambda file: file.stem)
def test_the_tables_are_those_of_the_measured_sections(script, file):
    results = file.read_text()
    table = script.targets.against_targets(results)
    assert script.sections.with_section(results, script.targets.HEADING, table) == results, REMEDY


def test_the_table_of_the_readme_is_that_of_the_results(script):
    results, readme = script.targets.RESULTS.read_text(), script.targets.README.read_text()
    shown = script.targets.readme_table(results)
    assert script.targets.between_marks(readme, shown) == readme, REMEDY


def test_a_line_tells_each_number_and_the_floor_that_is_missed(script):
    row = row_of(
        script.targets.against_targets(MEASURED), "average of 4 / 10 / 32 / 100 agents, float32, 1"
    )
    assert row[1:] == [
        "90 / 95 / 95 / 95 %",
        "100 %",
        "89 / 97 / not measured / not measured %",
        "short of the floor at 4",
    ]


def test_what_no_section_has_is_not_measured(script):
    table = script.targets.against_targets(MEASURED)
    assert row_of(table, "average of 4 / 10 / 32 / 100 agents, float32, 2")[3:] == [
        "not measured",
        "",
    ]
    assert row_of(table, "masks for secure aggregation")[3:] == ["not measured", ""]
    assert row_of(table, "launches, average and step, 10 / 32 agents, float32")[3:] == [
        "not run",
        "",
    ]


def test_a_floor_that_is_just_reached_is_met_only_where_it_was_measured(script):
    row = row_of(
        script.targets.against_targets(MEASURED), "average of 4 / 10 / 32 / 100 agents, bfloat16, 1"
    )
    assert row[3:] == ["not measured / 88 / not measured / 121 %", "floor met where measured"]


@pytest.mark.parametrize(
    "taken_away",
    ["| 4 x 8M float32, 1 thread | this library |", "of limit", "`average.py --threads 1`"],
)
def test_without_its_row_column_or_section_a_number_is_nothing(script, taken_away):
    find = script.measures.average(4, "float32", 1, "this library", "of limit")
    assert find(MEASURED) == 89
    assert find(MEASURED.replace(taken_away, "| x | x |" if "|" in taken_away else "x")) is None


def test_less_is_better_where_the_unit_says_so(script):
    verdicts = script.verdicts

    def verdict(unit, value):
        return verdicts.line("", unit, {"": lambda _: value}, ((2.0, 1.0),)).verdict("")

    ours = [verdict(verdicts.AVERAGES, value) for value in (1.0, 1.5, 2.5)]
    assert ours == ["stretch met", "floor met", "short of the floor"]


def test_page_faults_are_a_share_of_the_distance_at_their_price_in_the_same_run(script):
    table = script.targets.against_targets(MEASURED)
    assert row_of(table, "4 x 8M float32, 1 thread | Flower")[2:] == ["12,000", "24%"]
    alone = MEASURED.replace("| first touch", "| another touch")
    table = script.targets.against_targets(alone)
    assert row_of(table, "4 x 8M float32, 1 thread | Flower")[2:] == ["12,000", "not measured"]


def test_a_section_is_replaced_or_stands_before_what_has_not_run(script):
    heading = script.sections.of_command("robust.py")
    once = script.sections.with_section(MEASURED, heading, "first")
    again = script.sections.with_section(once, heading, "second")
    assert once.index("\nfirst\n") < once.index("## What has not run")
    assert again == once.replace("\nfirst\n", "\nsecond\n")
    assert script.sections.section(again, heading) == "second"


def test_every_section_that_is_read_is_one_that_a_command_writes(script):
    measures = script.measures
    read = {*measures.AVERAGE.values(), *measures.ROUND.values(), "robust.py", "gpu.py"}
    read |= {measures.FLOWER_ROUND, measures.LARGEST, "twins.py", "memory.py"}
    assert read <= {section.command for section in script.run.SECTIONS}


def printed(name: str, *words: str) -> str:
    """What a script prints at a small size."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--repeats", "1", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_average_prints_is_found_by_the_names_that_the_targets_have(script):
    at, sections = script.measures, script.sections
    words = ("--agents", "4", "--values", "5000", "--threads", "1", "--types", "float32")
    heading = sections.of_command(at.AVERAGE[1])
    text = sections.with_section("", heading, printed("average", *words))
    names = (at.OURS, at.STEP, at.ADAM, at.FOREACH, at.MV, at.LOOP)
    for contender in (*names, at.READ_AND_WRITTEN, at.FIRST_TOUCH):
        for column in (at.MS, "of limit", "times ours"):
            found = at.average(4, "float32", 1, contender, column)(text)
            assert found is not None, (contender, column)
    for name in names:
        assert at.average(4, "float32", 1, name, "error")(text) < 1e-6
    assert at.average(4, "float32", 1, at.FIRST_TOUCH, "page faults")(text) >= 10_000


def test_what_robust_prints_is_found_by_the_names_that_the_targets_have(script):
    at, sections = script.measures, script.sections
    table = printed("robust", "--agents", "10", "--values", "5000")
    text = sections.with_section("", sections.of_command("robust.py"), table)
    for question in ("median", "trimmed mean", "distances"):
        for column in ("weighted sums", "times ours", "error"):
            assert at.robust(question, 10, at.OURS, column)(text) is not None, (question, column)
