"""Settings, terms and rosters: what is written in YAML is read whole, or its fault is named."""

from itertools import pairwise

import pytest
import yaml

from llmagentos.errors import SettingError
from llmagentos.identity import read_roster
from llmagentos.recipes.cli import parser_for, read_words
from llmagentos.settings import RunSettings
from llmagentos.yaml_text import read_yaml

NINE = ", ".join("*{0}" for _ in range(9))
LETTERS = "abcdefghi"
ALIASES = "a: &a [x]\n" + "".join(
    f"{after}: &{after} [{NINE.format(before)}]\n" for before, after in pairwise(LETTERS)
)
"""Three hundred bytes that stand for forty million values."""

BEYOND = {
    "a name twice": ("{a: 1, a: 2}", "'a' is there twice in {a, a}; rename one"),
    "a name twice, deep inside": ("a: [{b: {c: 1, c: 2}}]", "'c' is there twice"),
    "aliases of aliases": (ALIASES, "more than 1000000 values; write them without aliases"),
    "an alias of what it is in": ("&a [*a, *a]", "more than 1000000 values"),
}
UNREADABLE = {
    "lists without end": "[" * 1000,
    "mappings without end": "{a: " * 1000,
    "deep, and ended": "[" * 1000 + "]" * 1000,
    "a number of 5000 digits": "a: " + "9" * 5000,
    "a month that is not there": "a: 2001-99-99",
    "no number": "a: !!float x",
    "no time": "a: !!timestamp x",
    "no truth": "a: !!bool x",
    "code": "!!python/object/apply:os.getpid []",
    "an unknown alias": "*a",
    "a control character": "a: \x00",
}


def test_what_is_written_is_read():
    assert read_yaml("a: &a [1, {b: null}]\nc: *a") == {
        "a": [1, {"b": None}],
        "c": [1, {"b": None}],
    }
    assert read_yaml("") is None


@pytest.mark.parametrize("name", BEYOND)
def test_what_would_be_lost_or_swell_is_named(name):
    text, words = BEYOND[name]
    with pytest.raises(SettingError, match=words):
        read_yaml(text)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_no_yaml(name):
    with pytest.raises(yaml.YAMLError):
        read_yaml(UNREADABLE[name])


@pytest.mark.parametrize("name", [*BEYOND, *UNREADABLE])
def test_a_roster_and_settings_name_the_file_that_is_at_fault(tmp_path, name):
    file = tmp_path / "file.yaml"
    file.write_text(UNREADABLE.get(name) or BEYOND[name][0])
    with pytest.raises(SettingError, match=r"roster .*file\.yaml"):
        read_roster(file)
    with pytest.raises(SettingError):
        read_words(RunSettings, parser_for(RunSettings, "any", ""), ["--config", str(file)])


def test_an_agent_that_is_in_a_roster_twice_is_named(tmp_path):
    file = tmp_path / "roster.yaml"
    file.write_text("north: {key: aa, examples: 1, tokens: 1}\nnorth: {revoked: true}\n")
    with pytest.raises(SettingError, match=r"roster\.yaml: 'north' is there twice"):
        read_roster(file)
