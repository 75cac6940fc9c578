"""The comparison of the LoRA methods, on a tiny model."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmagentos.aggregation import METHODS
from llmagentos.engines.personal import PERSONAL

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

DUAL = "dual, twice the steps"

HOLD = """
import sys, time
from pathlib import Path
from lora_cells import Cell, Ledger
assert Ledger(Path(sys.argv[1])).claim([Cell("invented", 2, "naive", 0.01, 0)])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the script, which lie in no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("lora_cells", "lora_methods", "lora_plan", "lora_table")
    return SimpleNamespace(**{name[5:]: __import__(name) for name in names})


def scope_of(plan, *methods):
    size = plan.Size(
        model="tiny",
        rounds=2,
        steps=1,
        batch=2,
        max_tokens=96,
        rows=2,
        corpora={"invented": {"max_rows": 8, "held_out": 0.25}},
    )
    chosen = {name: plan.CONTENDERS[name] for name in methods}
    return plan.Scope(
        size, chosen, rates=(0.01, 0.02), wider={}, seeds=(0, 1), few=2, many=4, best=1
    )


def finished(plan, scope, losses):
    """Cells of made-up losses by method and rate, for as long as there are any to compute."""
    cells = {}
    while (cell := next(plan.wanted(cells, scope), None)) is not None:
        cells[cell] = {"shared": {"north": losses(cell)}}
        yield cell, cells


def test_every_aggregation_is_compared(script):
    compared = {each.aggregation for each in script.plan.CONTENDERS.values()}
    assert compared == set(METHODS)
    assert {each.personal for each in script.plan.CONTENDERS.values()} == {"none", *PERSONAL}
    for name, each in script.plan.CONTENDERS.items():
        if each.ranks:
            assert METHODS[each.aggregation].ranks, name
            assert sum(each.ranks) / len(each.ranks) == 8


def test_all_cells_are_computed_once_and_told(script, tmp_path, capsys):
    scope = scope_of(script.plan, "base", "local only", "central", "naive", "fedsa", "fedex", DUAL)
    ledger = script.cells.Ledger(tmp_path / "cells.jsonl")
    script.methods.work(ledger, scope, most=3)
    first = ledger.path.read_text()
    assert len(first.splitlines()) == 3
    told = script.table.table(ledger.cells(), scope)
    assert "3 cells are computed, 19 are missing" in told
    assert "(1 of 2 tried)" in told
    script.methods.work(ledger, scope)
    assert ledger.path.read_text().startswith(first)
    cells = ledger.cells()
    assert len(cells) == len(ledger.path.read_text().splitlines()) == 22
    script.methods.work(ledger, scope)
    assert len(capsys.readouterr().out.splitlines()) == 22
    told = script.table.table(cells, scope)
    assert "22 cells are computed, 0 are missing" in told
    assert "### invented, 4 agents" in told
    script.table.draw(cells, scope, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_cell_shows_losses_and_what_it_cost(script, tmp_path):
    scope = scope_of(script.plan, "base", "naive", "fedsa", DUAL)
    ledger = script.cells.Ledger(tmp_path / "cells.jsonl")
    script.methods.work(ledger, scope, most=4)
    base, naive, fedsa, dual = ledger.cells().values()
    assert script.plan.home(naive) < script.plan.home(base)
    assert script.plan.home(fedsa) < script.plan.home(base)
    assert script.plan.home(fedsa) != script.plan.away(fedsa)
    assert "shared" not in fedsa
    assert dual["shared"] == naive["shared"]
    assert script.plan.home(dual) < script.plan.home(naive)
    assert naive["product_error"][-1] > 0
    assert sum(fedsa["bytes_up"]) < 0.8 * sum(naive["bytes_up"])
    assert naive["rounds_cpu_s"] <= naive["cpu_s"]


def test_a_run_that_leaves_the_numbers_is_a_cell_too_and_never_the_best(script, tmp_path):
    scope = replace(scope_of(script.plan, "naive"), rates=(1e39, 0.01))
    ledger = script.cells.Ledger(tmp_path / "cells.jsonl")
    script.methods.work(ledger, scope, most=1)
    assert "failed" in script.table.table(ledger.cells(), scope)
    script.methods.work(ledger, scope, most=1)
    wild, tame = ledger.cells().values()
    assert "not finite" in wild["failed"]
    assert "failed" not in tame
    assert script.plan.chosen(ledger.cells(), "naive", scope) == 0.01
    script.table.draw(ledger.cells(), scope, tmp_path / "plot.png")


def test_a_cell_that_another_process_is_at_is_left_to_it_until_it_dies(script, tmp_path):
    plan, path = script.plan, tmp_path / "cells.jsonl"
    wanted = list(plan.wanted({}, scope_of(plan, "naive", "ffa")))
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=BENCHMARKS, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert script.cells.Ledger(path).claim(wanted).method == "ffa"
        other.kill()
    assert script.cells.Ledger(path).claim(wanted) == wanted[0]


def test_every_method_goes_on_with_its_best_rate(script):
    plan = script.plan
    scope = scope_of(plan, "naive", "ffa", "fedex")
    best = {"naive": 0.02, "ffa": 0.01, "fedex": 0.02}
    worth = {"naive": 1.0, "ffa": 3.0, "fedex": 2.0}

    def losses(cell):
        return worth[cell.method] + (cell.lr != best[cell.method])

    order = [cell for cell, _ in finished(plan, scope, losses)]
    assert [cell.seed for cell in order[:6]] == [0] * 6
    assert {(cell.method, cell.lr) for cell in order[6:9]} == set(best.items())
    assert {cell.method for cell in order[9:]} == {"naive", "fedex"}
    assert {cell.agents for cell in order[9:]} == {4}
    assert len(order) == 6 + 3 + 2


def test_what_is_missing_is_known_before_the_rates_are(script):
    scope = scope_of(script.plan, "naive", "ffa", "fedex")
    assert script.plan.missing({}, scope) == [2] * 9 + [4] * 2
    worth = {"naive": 1.0, "ffa": 3.0, "fedex": 2.0}
    for number, (_, cells) in enumerate(finished(script.plan, scope, lambda c: worth[c.method]), 1):
        assert len(script.plan.missing(cells, scope)) == 11 - number


def test_a_best_rate_at_an_end_of_the_grid_is_followed_by_one_beyond_it(script):
    scope = replace(
        scope_of(script.plan, "naive", "ffa"), rates=(1.0, 2.0, 3.0), wider={1.0: 0.5, 3.0: 4.0}
    )
    best = {"naive": 2.0, "ffa": 4.0}
    cells = finished(script.plan, scope, lambda cell: abs(cell.lr - best[cell.method]))
    tried = [(cell.method, cell.lr) for cell, _ in cells if cell.seed == 0 and cell.agents == 2]
    assert len(tried) == 7
    assert tried[-1] == ("ffa", 4.0)
