"""Federated LoRA tuning from the command line: the program behind three doors."""

import logging
import os
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llmagentos.aggregation import check_aggregation
from llmagentos.corpus import read_silos
from llmagentos.recipes.command import Command, Recipe, read_command
from llmagentos.recipes.display import Display
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.extras import check_engine, check_model
from llmagentos.recipes.garbage import without_collection
from llmagentos.recipes.log_file import log_to_terminal
from llmagentos.recipes.prometheus import check_prometheus
from llmagentos.settings import RunSettings
from llmagentos.settings.checks import require
from llmagentos.strategies import check_updates

log = logging.getLogger(__name__)


def main(recipe: Recipe, words: Sequence[str] | None = None) -> int:
    """Run the recipe; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    commands: list[Command] = []

    def read() -> None:
        commands.append(read_command(recipe, sys.argv[1:] if words is None else words))

    def play() -> None:
        if commands[0].dry_run or not first_process():
            return tune(commands[0])
        with claimed(commands[0]) as command:
            commands[0] = command
            return tune(command)

    return exit_code(read) or exit_code(play, lambda: go_on(recipe, commands[0]))


@contextmanager
def claimed(command: Command) -> Iterator[Command]:
    """The command in a folder that is its own; nothing stays of one that nothing came into."""
    command = replace(command, folder=command.folder.claim(numbered=command.numbered))
    try:
        yield command
    finally:
        command.folder.release()


def tune(command: Command) -> None:
    """Check what can be checked early, then load the model and do what was asked."""
    first = first_process()
    log_to_terminal(logging.WARNING if first else logging.ERROR)
    check_horizon(command)
    check_prometheus(command.settings.prometheus)
    check_aggregation(command.settings)
    check_engine(command.settings.engine)
    check_model(command.settings.model)
    examples = read_silos(command.settings.corpus, command.settings.seed)
    check_agents(command.settings, taking_part(command.settings, examples))
    with Display(quiet=not first) as display:
        # Importing torch takes seconds, which a wrong setting or corpus should not cost.
        with without_collection():
            from llmagentos.recipes.running import carry_out

        carry_out(command, examples, display, first=first)


def check_horizon(command: Command) -> None:
    """Raise ``SettingError`` for a new run whose last rounds train at a rate of zero.

    A run that was ended and goes on is told so instead.
    """
    settings = command.settings
    horizon = settings.schedule_rounds or settings.rounds
    if settings.rounds <= horizon or settings.local.schedule == "constant":
        return
    told = f"the learning rate is 0 after schedule_rounds={horizon}"
    remedy = f"{told}; set that to {settings.rounds} too, or local.schedule to constant"
    require(command.resume, "rounds", settings.rounds, remedy)
    log.warning("rounds=%d: %s", settings.rounds, told)


def taking_part(settings: RunSettings, silos: Collection[str]) -> Collection[str]:
    """The names of the agents: of the silos here, or of the roster where agents dial in."""
    if not settings.dialled:
        return silos
    # Keys need a package that agents in this process do without.
    from llmagentos.identity import read_roster

    members = read_roster(Path(str(settings.flower.roster)))
    return [name for name, member in members.items() if not member.revoked]


def check_agents(settings: RunSettings, agents: Collection[str]) -> None:
    """Raise ``SettingError`` where settings count on agents that are not there."""
    local, lora, server = settings.local, settings.lora, settings.server
    named = {
        "local.steps_by_agent": list(local.steps_by_agent),
        "lora.ranks": list(lora.ranks),
        "lora.modules": list(lora.modules),
    }
    remedy = f"no such agent; there are {', '.join(agents)}"
    for setting, own in named.items():
        for agent in own:
            require(agent in agents, setting, agent, remedy)
    check_updates(server, len(agents))
    if server.strategy == "fedbuff":
        remedy = f"there are {len(agents)} agents, and none is in a buffer twice; set it lower"
        require(server.buffer <= len(agents), "server.buffer", server.buffer, remedy)


def go_on(recipe: Recipe, command: Command) -> str:
    """How to resume a run that has begun; empty for one that has not."""
    if not command.folder.begun:
        return ""
    path = command.folder.path
    words = ["--out", str(path.parent), "--name", path.name, "--resume"]
    words += ["--compare"] * command.compare
    return f"Go on with: python -m llmagentos.recipes.{recipe.name} {shlex.join(words)}"


def first_process() -> bool:
    """Whether this is the first of an agent's processes, or the only one."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return not several or os.environ.get("RANK", "0") == "0"
