"""How the cost of a round grows with agents, adapter and batch: one by one and side by side.

    python benchmarks/growth.py [--threads 2] [--plot docs/cohort.png] [--largest]

Every point is a process of its own, so that its peak memory is its own. ``--largest`` is one round
of 256 agents on SmolLM2, in groups that the default memory budget allows. Prints Markdown tables.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from growth_plot import plot
from own_agents import MODELS, TOKENS, Agents, Size, with_adapter
from rows import machine

from llmagentos.lm.allocator import keep_freed_memory
from llmagentos.lm.memory import demand_of
from llmagentos.settings import CohortSettings, CorpusSettings, LocalSettings, RunSettings

USUAL = Size(agents=16, steps=2, batch=1)
LARGEST = Size(agents=256, steps=1, batch=1, rank=8, targets=("q_proj", "v_proj"))
SERIES: dict[str, list[Size]] = {
    "agents": [replace(USUAL, agents=count) for count in (8, 16, 32, 64, 128, 256)],
    "rank": [replace(USUAL, rank=rank) for rank in (4, 16, 64)],
    "batch": [replace(USUAL, batch=batch) for batch in (1, 2, 4, 8)],
}
LABELS = {"agents": "agents", "rank": "rank of the adapter", "batch": "rows of 64 tokens a step"}
WAYS = "single", "cohort"
COLUMNS = (
    "one by one, ms per agent | side by side, ms per agent | times faster "
    "| peak one by one, GB | peak side by side, GB"
)
Point = dict[str, float]


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, the better of two, and the highest resident set while it ran, in GB."""
    Path("/proc/self/clear_refs").write_text("5")
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text()
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return min(times), int(peak.split()[1]) * 1024 / 1e9


def point(model: str, size: Size, ways: Sequence[str]) -> Point:
    """Seconds and peak of some ways, the group, and what the budget's rule expects."""
    agents = Agents(with_adapter(MODELS[model][0](), size), size)
    settings = RunSettings(
        local=LocalSettings(steps=size.steps, batch=size.batch),
        corpus=CorpusSettings(max_tokens=TOKENS),
    )
    demand = demand_of(agents.single.bench, settings)
    group = min(size.agents, demand.agents_within(CohortSettings().memory_gb * 1e9))
    tasks, works = agents.tasks(), {}
    works["single"] = lambda: agents.one_by_one(tasks)
    works["cohort"] = lambda: agents.side_by_side(tasks, group)
    found: Point = {
        "group": group,
        "each_mb": demand.agent / 1e6,
        "group_mb": demand.of(group) / 1e6,
        "values": agents.layout.size,
    }
    _, found["before"] = measured(lambda: agents.single.update(tasks[0]))
    for way in ways:
        found[way], found[f"{way}_peak"] = measured(works[way])
    return found


def apart(model: str, size: Size, threads: int, *ways: str) -> Point:
    """The point, found by a process of its own."""
    told = json.dumps([model, asdict(size), threads, ways])
    command = [sys.executable, __file__, "--point", told]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Point = json.loads(done.stdout.splitlines()[-1])
    return found


def here(told: str) -> None:
    """Find a point in this process and print it."""
    model, size, threads, ways = json.loads(told)
    torch.set_num_threads(threads)
    keep_freed_memory()
    targets = tuple(size.pop("targets"))
    print(json.dumps(point(model, Size(**size, targets=targets), ways)))


def curves(name: str, threads: int) -> dict[str, list[float]]:
    """What a series shows, times per agent in milliseconds."""
    sizes = SERIES[name]
    found = [apart("tiny", size, threads, *WAYS) for size in sizes]
    shown = {"across": [float(getattr(size, name)) for size in sizes]}
    for way in WAYS:
        shown[way] = [1e3 * at[way] / size.agents for at, size in zip(found, sizes, strict=True)]
        shown[f"{way}_peak"] = [at[f"{way}_peak"] for at in found]
    return shown


def table(label: str, shown: dict[str, list[float]]) -> str:
    """A row a point."""
    lines = [f"\n| {label} | {COLUMNS} |", "|---|---|---|---|---|---|"]
    for across, alone, peak_alone, together, peak in zip(*shown.values(), strict=True):
        lines.append(
            f"| {across:.0f} | {alone:.1f} | {together:.1f} | {alone / together:.2f} "
            f"| {peak_alone:.2f} | {peak:.2f} |"
        )
    return "\n".join(lines)


def largest(threads: int) -> str:
    """256 agents on SmolLM2."""
    found = apart("smollm2", LARGEST, threads, "cohort")
    added = (found["cohort_peak"] - found["before"]) * 1e3
    return (
        f"\n256 agents of SmolLM2-135M, r = 8 on q and v ({found['values']:,} values), one step of "
        f"1 x {TOKENS} tokens: {found['cohort']:.1f} s in groups of {found['group']:.0f}, peak "
        f"{found['cohort_peak']:.2f} GB, of which {found['before']:.2f} GB with one agent alone. "
        f"The rule expects {found['each_mb']:.0f} MB of an agent and, with the logits, "
        f"{found['group_mb']:.0f} MB of a group at most; {added:.0f} MB were added, "
        f"{LARGEST.agents * found['values'] * 4 / 1e6:.0f} MB of them the updates of all agents."
    )


def main() -> None:
    """Print the tables and, if asked to, draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        here(asked.point)
        return
    print(machine(0, torch=torch.__version__).replace(" 0 values in a vector;", ""))
    if asked.largest:
        print(largest(asked.threads))
        return
    panels = {LABELS[name]: curves(name, asked.threads) for name in SERIES}
    for label, shown in panels.items():
        print(table(label, shown))
    if asked.plot:
        plot(panels, asked.plot)


if __name__ == "__main__":
    main()
