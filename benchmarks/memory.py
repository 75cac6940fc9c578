"""What a round costs its coordinator in memory: mapped updates in, a new global file out.

    python benchmarks/memory.py

Really through the journal and FedAvg: the updates lie in its files, as they do when they have come
in. For the memory there are 100 agents and ten files, each the update of ten agents, so that they
fit the disk; every agent's row is mapped and read on its own. For the time there are 20 agents and
as many files, all in the page cache, and a second round is timed: its output takes the memory that
the first one freed. Anonymous memory is sampled every millisecond and told above
what the imports take. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from rows import machine, spread

from llmagentos import kernels
from llmagentos.adapter import Adapter
from llmagentos.journal import Journal
from llmagentos.layout import Layout
from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.messages import Task, answer, encode
from llmagentos.state import ServerState
from llmagentos.strategies import Step, fedavg

SAMPLE_S = 1e-3


def layout(values: int) -> Layout:
    """One tensor."""
    return Layout(("lora",), ((values,),))


def prepare(folder: Path, agents: int, values: int, files: int) -> None:
    """A journal whose first round has everybody's update."""
    rng = np.random.default_rng(0)
    anchor = rng.standard_normal(values, np.float32)
    made = layout(values)
    with Journal(folder) as journal:
        run = journal.begin(made, {}, lambda: ServerState(1, Adapter(made, anchor)))
        for number in range(files):
            delta = rng.standard_normal(values, np.float32)
            norm = kernels.inspect(delta).squared_norm
            tasks = [
                Task(run, 1, "fit", f"agent{k:03}", {}, made, 0)
                for k in range(number, agents, files)
            ]
            body = encode(answer(tasks[0], vectors={"delta": delta}))
            for task in tasks:
                journal.answers.record(task, body, norm)


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def peak_of(work: Callable[[], object]) -> int:
    """The most anonymous bytes while the work was done, above those before it."""
    before, seen, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            seen[0] = max(seen[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(seen[0], anonymous_bytes()) - before


def mapped_rounds(folder: Path) -> dict[str, float]:
    """Seconds of the two halves of a round's end, the second time, and the peak of both rounds."""
    found: dict[str, float] = {}
    keep_freed_memory()  # as the recipes do

    def work() -> None:
        with Journal(folder) as journal:
            journal.answers.admitted(1, "fit")  # compared with their hashes, as when they came in
            for _ in range(2):
                found.update(round_end(journal))

    return found | {"peak": peak_of(work)}


def round_end(journal: Journal) -> dict[str, float]:
    """Seconds that the sum over the mapped updates takes, and then its way to the disk."""
    start = time.perf_counter()
    answers, state = journal.answers.admitted(1, "fit"), journal.state()
    rows = [each.update.vectors["delta"] for each in answers]
    norms = tuple(each.squared_norm for each in answers)
    advanced = fedavg().advance(state, Step(rows, [1 / len(rows)] * len(rows), norms))
    middle = time.perf_counter()
    journal.close_round(advanced, {})
    return {"sum": middle - start, "close": time.perf_counter() - middle}


def rounds_apart(agents: int, files: int, asked: argparse.Namespace) -> list[dict[str, float]]:
    """The round's end in processes of their own, each from the state before it."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        prepare(Path(folder), agents, asked.values, files)
        found = []
        for _ in range(asked.repeats):
            command = [sys.executable, __file__, "--round", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
    return found


def in_memory(agents: int, values: int, repeats: int) -> list[float]:
    """The same sums with every byte in memory, the output's too, which was touched before."""
    rng = np.random.default_rng(0)
    anchor, out, *rows = rng.standard_normal((2 + agents, values), np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        kernels.average_step(anchor, rows, [1 / agents] * agents, out=out)
        times.append(time.perf_counter() - start)
    return times


def arguments() -> argparse.Namespace:
    """How large, how often."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--timed-agents", type=int, default=20)
    parser.add_argument("--values", type=int, default=40_000_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prepare", type=Path, help="Only make this folder's journal.")
    parser.add_argument("--round", type=Path, help="Only play two rounds of such a journal.")
    return parser.parse_args()


def main() -> None:
    """Prepares, measures in fresh processes, prints."""
    asked = arguments()
    if asked.round:
        print(json.dumps(mapped_rounds(asked.round)))
        return
    if asked.prepare:
        prepare(asked.prepare, asked.agents, asked.values, asked.files)
        return
    peak = max(each["peak"] for each in rounds_apart(asked.agents, asked.files, asked))
    timed = rounds_apart(asked.timed_agents, asked.timed_agents, asked)
    memory = in_memory(asked.timed_agents, asked.values, asked.repeats)
    sums = [each["sum"] for each in timed]
    adapter = 4 * asked.values / 1e6
    size = f"x {adapter:.0f} MB"
    print(machine(asked.values), end="\n\n")
    print("| what | measured | floor | stretch |\n|---|---|---|---|")
    print(
        f"| anonymous memory above the imports, {asked.agents} agents {size} | "
        f"{peak / 1e6:.0f} MB | {2 * adapter + 50:.0f} MB | {adapter + 50:.0f} MB |"
    )
    print(f"| average in memory, {asked.timed_agents} agents {size}, ms | {spread(memory)} | | |")
    print(f"| average of mapped files, looked up in the journal, ms | {spread(sums)} | | |")
    print(f"| times in memory | {median(sums) / median(memory):.2f} | 1.30 | 1.10 |")
    print(f"| new global file, hashed and synced, ms | {spread([r['close'] for r in timed])} | | |")


if __name__ == "__main__":
    main()
