"""Which way to aggregate LoRA, on real text: every method at the same budget, on real silos.

    python benchmarks/lora_methods.py            # go on where the last process stopped
    python benchmarks/lora_methods.py --table    # the Markdown table and docs/lora_methods.png

SmolLM2-135M; agents are chapters of ICD-10 or sectors of NAICS. A method's learning rate is the
best of three, or four where the best is at an end of them, by held-out loss at home on ICD-10 with
seed 0. Three seeds with four agents; then sixteen and one seed for naive and the best three on own
and others' text together. A finished cell is a line of `lora_methods.jsonl`, and is not computed
again; whatever ends a process costs the cell that it is at. For more cores start it once for each
of them: they share the cells out. It is a night's work for two.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from lora_cells import Cell, Ledger
from lora_plan import Scope, missing, wanted

HERE = Path(__file__).parent
CELLS = HERE / "lora_methods.jsonl"
PLOT = HERE.parent / "docs" / "lora_methods.png"


def main() -> None:
    """Compute what is missing, or show what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=Path, default=CELLS, help="File of the finished cells.")
    parser.add_argument("--table", action="store_true", help="Print the table, draw the plot.")
    parser.add_argument("--plot", type=Path, default=PLOT, help="PNG file of --table.")
    parser.add_argument("--most", type=int, help="Stop after so many cells.")
    asked = parser.parse_args()
    ledger = Ledger(asked.cells)
    if asked.table:
        # Whoever computes draws nothing, and whoever draws needs no torch.
        from lora_table import draw, table  # noqa: PLC0415

        print(table(ledger.cells(), Scope()))
        draw(ledger.cells(), Scope(), asked.plot)
    else:
        work(ledger, Scope(), asked.most)


def work(ledger: Ledger, scope: Scope, most: int | None = None) -> None:
    """Finish cells until none is missing, or ``most`` of them; other processes may do the same."""
    start, finished = time.time(), 0
    while missing(ledger.cells(), scope) and finished != most:
        cell = ledger.claim(cell for cell in wanted(ledger.cells(), scope))
        if cell is None:
            time.sleep(PAUSE_S)  # the rates of what is left hang on cells that others are at
            continue
        finish(cell, ledger, scope)
        finished += 1
        print(progress(cell, ledger, scope, start), flush=True)


PAUSE_S = 5.0
"""How long a process waits before it looks again whether there is a cell for it."""


def finish(cell: Cell, ledger: Ledger, scope: Scope) -> None:
    """The cell is computed from its beginning and written down."""
    from lora_runs import played  # noqa: PLC0415

    with TemporaryDirectory() as folder:
        found = played(cell, scope.methods[cell.method], scope.size, Path(folder))
    ledger.add(cell, found)
    ledger.release(cell)


def progress(cell: Cell, ledger: Ledger, scope: Scope, start: float) -> str:
    """What was done, and how long the rest takes at the pace of all processes since ``start``."""
    cells = ledger.cells()
    left = missing(cells, scope)
    done = sum(each.agents for each, found in cells.items() if found["ended"] >= start)
    hours = (time.time() - start) / done * sum(left) / 3600
    return (
        f"{len(cells)} of {len(cells) + len(left)} cells; {hours:.1f} h left; {cell}: "
        f"{cells[cell]['cpu_s']:.0f} processor seconds"
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the next start goes on with the cell that was at work\n")
        os._exit(130)
