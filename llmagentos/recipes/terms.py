"""What the agents must know of a run before it: ``python -m llmagentos.recipes.terms``."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import yaml

from llmagentos.errors import SettingError
from llmagentos.files import write_durably
from llmagentos.recipes.cli import parse, parser_for, read_words
from llmagentos.recipes.exits import exit_code
from llmagentos.recipes.garbage import without_collection
from llmagentos.settings import RowSettings, RunSettings, Terms

DESCRIPTION = (
    "Write the terms of a run for its agents: the coordinator's public key, the base model and the "
    "hash of its weights, the adapter, and how examples become rows. Takes the run's settings."
)
FIRST_LINE = "# The terms of a run. Compare coordinator and base by telephone, digit by digit.\n"


def main(words: Sequence[str] | None = None) -> int:
    """Write the file; the exit code is 0 done, 1 failed, 2 wrong setting, 130 interrupted."""
    return exit_code(lambda: write(sys.argv[1:] if words is None else words))


def write(words: Sequence[str]) -> None:
    """Load the model, for the hash of its weights, and write the terms."""
    parser = parser_for(RunSettings, "terms", DESCRIPTION)
    group = parser.add_argument_group("The coordinator")
    group.add_argument("--key", default="coordinator.key", help="File of its private key.")
    group.add_argument("--terms", default="terms.yaml", help="File to be written.")
    asked = parse(parser, words)
    settings = read_words(RunSettings, parser, words)
    # Importing torch takes seconds, which a wrong setting or key should not cost.
    from llmagentos.identity import name_of, read_key

    coordinator = name_of(read_key(Path(asked.key)))
    terms = terms_of(settings, coordinator)
    write_terms(Path(asked.terms), terms)
    print(f"coordinator: {terms.coordinator}\nbase: {terms.base}\n{asked.terms} is for every agent")


def terms_of(settings: RunSettings, coordinator: str) -> Terms:
    """The terms of a run; every ``auto`` in them is resolved on this machine."""
    with without_collection():
        from llmagentos.lm.models import load_base
        from llmagentos.lm.positions import check_longest
        from llmagentos.recipes.resolve import resolved

    settings = resolved(settings)
    base = load_base(settings.model, settings.seed)
    corpus = settings.corpus
    check_longest(base.model, "corpus.max_tokens", corpus.max_tokens)
    return Terms(
        coordinator=coordinator,
        base=base.hash,
        seed=settings.seed,
        precision=settings.local.precision,  # type: ignore[arg-type]
        model=replace(settings.model, device="auto"),
        lora=settings.lora,
        rows=RowSettings(**{item.name: getattr(corpus, item.name) for item in fields(RowSettings)}),
    )


def write_terms(path: Path, terms: Terms) -> None:
    """The file holds the terms."""
    text = yaml.safe_dump(asdict(terms), sort_keys=False, allow_unicode=True)
    write_durably(path, (FIRST_LINE + text).encode())


def read_terms(path: Path) -> Terms:
    """The terms that a coordinator wrote; ``SettingError`` names what is wrong with them."""
    if not path.is_file():
        raise SettingError(f"terms={str(path)!r}: no such file; the coordinator has it for you")
    return read_words(Terms, parser_for(Terms, "terms", ""), ["--config", str(path)])


if __name__ == "__main__":
    sys.exit(main())
