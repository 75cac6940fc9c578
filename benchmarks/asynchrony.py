"""What it is worth to wait for nobody: the loss over time of agents of which one is slow.

    python benchmarks/asynchrony.py [--config recipes/smoke.yaml] [--slow 10] [--rounds 12]

Training is real, time is simulated: a round of local training takes every agent one second, but the
first ``--slow`` seconds. The target is the loss that FedAvg has after ``--rounds`` rounds. Prints a
Markdown table, and draws ``--plot`` if given.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from llmagentos.corpus import read_silos
from llmagentos.engines import InProcessEngine, PacedEngine, with_memory
from llmagentos.federation import Federation, asynchrony, run, task_for
from llmagentos.journal import Journal
from llmagentos.recipes.command import load_settings
from llmagentos.recipes.resolve import resolved
from llmagentos.recipes.session import Session, open_session, plan_of
from llmagentos.round_report import RoundReport
from llmagentos.state import ServerState
from llmagentos.strategies import Strategy, fedasync, fedavg, fedbuff

Play = Callable[[Federation], Iterator[RoundReport]]
Course = list[tuple[float, float, float]]
"""Seconds, mean held-out loss, and that of the slow agent, after every step of the server."""

SMOKE = Path(__file__).parent.parent / "recipes" / "smoke.yaml"


@dataclass(frozen=True)
class Contender:
    """A way to train: the strategy, how it is played, and its buffer."""

    strategy: Strategy
    play: Play = asynchrony.run
    buffer: int = 1


CONTENDERS = {
    "FedAvg, everyone waits": Contender(fedavg(), run),
    "FedBuff, buffer of 3": Contender(fedbuff(), buffer=3),
    "FedBuff, buffer of 2": Contender(fedbuff(), buffer=2),
    "FedAsync": Contender(fedasync()),
}


def course(session: Session, contender: Contender, fit_s: dict[str, float], until: float) -> Course:
    """How a contender's loss falls up to a moment."""
    with TemporaryDirectory() as folder, Journal(Path(folder) / "journal") as journal:
        trainer = with_memory(session.trainer, Path(folder) / "agents")
        engine = PacedEngine(InProcessEngine(trainer, session.roster), fit_s)
        plan = plan_of(session.settings, journal.begin(session.layout, {}, session.first_state))
        told = {"fit": plan.settings["fit"], "measure": plan.settings["measure"]}
        plan = replace(plan, settings=told, rounds=10**6, buffer=contender.buffer)
        parts = Federation(contender.strategy, engine, journal, plan, engine.clock)
        found = [(0.0, *losses(journal.state(), session, parts))]
        for _ in contender.play(parts):
            journal.forget(updates=True)
            found.append((engine.clock(), *losses(journal.state(), session, parts)))
            if engine.clock() >= until:
                return found
    raise AssertionError("a run of a million rounds ended early")


def losses(state: ServerState, session: Session, parts: Federation) -> tuple[float, float]:
    """Held-out loss, the mean over agents and that of the first; they take no simulated time."""
    tasks = [task_for(agent, "measure", state, parts) for agent in session.roster]
    found = [session.trainer.evaluate(task).metrics["loss"] for task in tasks]
    return fmean(found), found[0]


def reached(found: Course, target: float) -> float | None:
    """The first second at which the loss is no more than a target."""
    return next((second for second, loss, _ in found if loss <= target), None)


def table(courses: dict[str, Course], target: float) -> str:
    """The Markdown table, times faster than the first."""
    lines = [
        "| | steps of the server | loss at the end | that of the slow agent"
        f" | seconds to {target:.3f} | times faster |",
        "|---|---|---|---|---|---|",
    ]
    first = reached(next(iter(courses.values())), target)
    for name, found in courses.items():
        needed = reached(found, target)
        faster = f"{first / needed:.1f}" if first and needed else "-"
        _, mean, slow = found[-1]
        cells = name, str(len(found) - 1), f"{mean:.3f}", f"{slow:.3f}", f"{needed or '-'}", faster
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(courses: dict[str, Course], target: float, path: Path) -> None:
    """Loss over simulated seconds, a line for every contender."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, found in courses.items():
        seconds, mean, _ = zip(*found, strict=True)
        axes.step(seconds, mean, where="post", label=name)
    axes.axhline(target, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="simulated seconds", ylabel="mean held-out loss, nats a token")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train every contender for as long as FedAvg takes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=SMOKE)
    parser.add_argument("--slow", type=float, default=10.0, help="Seconds of the slow agent.")
    parser.add_argument("--rounds", type=int, default=12, help="Rounds of FedAvg.")
    parser.add_argument("--plot", type=Path, help="PNG file.")
    asked = parser.parse_args()
    settings = resolved(replace(load_settings(asked.config), threads=1))
    examples = read_silos(settings.corpus, settings.seed)
    session = open_session(settings, examples, lambda items, _: items)
    fit_s = dict.fromkeys(session.roster, 1.0) | {next(iter(session.roster)): asked.slow}
    until = asked.slow * asked.rounds
    courses = {name: course(session, each, fit_s, until) for name, each in CONTENDERS.items()}
    target = next(iter(courses.values()))[-1][1]
    print(f"{asked.config.name}: seconds of a local round are {fit_s}\n")
    print(table(courses, target))
    if asked.plot:
        draw(courses, target, asked.plot)


if __name__ == "__main__":
    main()
