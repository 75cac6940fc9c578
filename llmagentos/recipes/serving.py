"""An organisation's agent, from its script's few lines: what it reads, checks, and joins."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from llmagentos.agent import AgentSettings, Limits
from llmagentos.corpus.own import ToExample, own_examples
from llmagentos.errors import LLMAgentOSError, SettingError
from llmagentos.recipes.cli import parse, parser_for, read_words
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.garbage import without_collection
from llmagentos.recipes.log_file import log_to_terminal


@dataclass(frozen=True)
class Organisation:
    """What a script says of its organisation; every default can be set on the command line."""

    description: str
    """Shown by ``--help``."""
    name: str
    """The agent's name unless ``--name`` says another."""
    corpus: str
    """The text unless ``--corpus`` says another."""
    to_example: ToExample
    """What a row of the text teaches, scrubbed; nothing where it is left out."""
    limits: Limits = Limits()
    """What the organisation agrees to."""


FLAGS = {
    "--check": "Try keys, reachability, clock, disk, corpus, model and a training step, and stop.",
    "--once": "Answer the one sealed task on standard input on standard output, and stop.",
}


def serve(organisation: Organisation, words: Sequence[str] | None = None) -> int:
    """Answer the coordinator until it is interrupted; or check, or answer once.

    The exit code is 0 done, 1 failed or found something wrong, 2 wrong setting, 130 interrupted.
    """
    return exit_code(lambda: _serve(organisation, sys.argv[1:] if words is None else words))


def _serve(organisation: Organisation, words: Sequence[str]) -> None:
    log_to_terminal(logging.INFO, "%(asctime)s %(message)s")
    program = Path(sys.argv[0]).name
    parser = parser_for(
        AgentSettings,
        program,
        organisation.description,
        {"name": organisation.name, "corpus": organisation.corpus} | _limits(organisation.limits),
    )
    for flag, help_ in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=help_)
    asked = parse(parser, words)
    settings = read_words(AgentSettings, parser, words)
    if asked.check:
        _check(settings, organisation.to_example)
    elif asked.once:
        _answer_once(settings, organisation.to_example)
    else:
        _join(settings, organisation.to_example)


def _limits(limits: Limits) -> dict[str, object]:
    return {f"limits.{item.name}": getattr(limits, item.name) for item in fields(Limits)}


def _check(settings: AgentSettings, to_example: ToExample) -> None:
    with without_collection():
        from llmagentos.recipes.checking import check

    wrong = check(settings, to_example)
    if wrong:
        raise LLMAgentOSError(f"mend what is marked NO above ({wrong})")


def _answer_once(settings: AgentSettings, to_example: ToExample) -> None:
    """Sealed bytes in, sealed bytes out: for whoever carries them by hand or by ssh."""
    examples = own_examples(settings.corpus, to_example)
    with without_collection():
        from llmagentos.recipes.desk import open_desk

    with open_desk(settings, examples) as desk:
        sys.stdout.buffer.write(desk.answer(sys.stdin.buffer.read(desk.party.largest_bytes + 1)))
        sys.stdout.buffer.flush()


def _join(settings: AgentSettings, to_example: ToExample) -> None:
    """Answer what the coordinator asks over its SuperLink, for weeks."""
    if not settings.superlink:
        raise SettingError("superlink is not set: the coordinator has its HOST:PORT for you")
    examples = own_examples(settings.corpus, to_example)
    # Importing torch takes seconds, which a wrong setting or corpus should not cost.
    from llmagentos.engines.flower.local import free_port
    from llmagentos.engines.flower.node import Node
    from llmagentos.engines.flower.node import serve as serve_node

    with without_collection():
        from llmagentos.recipes.desk import open_desk

    authority, key = Path(settings.authority), Path(settings.node_key)
    with open_desk(settings, examples) as desk:
        home = Path(settings.home) / "flower"
        home.mkdir(exist_ok=True)
        largest = desk.party.largest_bytes
        node = Node(settings.superlink, authority, key, home, free_port(), largest)
        serve_node(desk.answer, settings.name, node)
