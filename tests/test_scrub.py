"""Obvious identifiers are taken out of a text, and what only looks a little like one is not."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmagentos.corpus import scrub as module
from llmagentos.corpus.scrub import FORMS, scrub


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("ana.lopez+ward3@klinik-sued.example.org", "[mail]"),
        ("O'Brien@mail.example", "O'[mail]"),
        ("ana@example.org+bo.b@example.org", "[mail]"),
        ("ana@example.org..b@example.org", "[mail]"),
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("GB29NWBK60161331926819", "[iban]"),
        ("NO9386011117947", "[iban]"),
        ("+49 30 901820", "[phone]"),
        ("+1 (415) 555-0100", "[phone]"),
        ("0041 44 668 18 00", "[phone]"),
        ("(030) 90 18 20", "[phone]"),
        ("089/12345678", "[phone]"),
        ("415-555-0100", "[phone]"),
        ("1961-04-03", "[date]"),
        ("3.4.1961", "[date]"),
        ("04/03/61", "[date]"),
        ("4111 1111 1111 1111", "[number]"),
        ("123-45-6789", "[number]"),
        ("4711081512", "[number]"),
        ("MRN004711", "[number]"),
    ],
)
def test_an_identifier_is_replaced_by_its_mark(text, mark):
    assert scrub(text) == mark
    assert scrub(f"Seen today: {text}, and again.") == f"Seen today: {mark}, and again."


@pytest.mark.parametrize(
    "text",
    [
        "Type 2 diabetes mellitus with stage 3b kidney disease (eGFR 30-44)",
        "ICD-10 C34.90; blood pressure 120/80; 37.5 degrees at 14:30",
        "Section 4.2.1 of version 10.0.1 costs 1,250,000 dollars in 2024",
        "Between 2019-2024 the line made 12,500 parts of 3.5 mm",
        "Press 12 at 250 bar, error E1042, batch 77",
    ],
)
def test_plain_numbers_are_left_alone(text):
    assert scrub(text) == text


@pytest.mark.parametrize(
    ("mark", "run"),
    [("[mail]", "a.b+c-d@e.de"), ("[iban]", "GB29NWBK60161331926819"), ("[number]", "4711081512")],
)
def test_a_form_begins_where_its_run_begins_or_not_at_all(mark, run):
    letters = run.partition("@")[0]
    assert FORMS[mark].match(run)
    assert not any(FORMS[mark].match(run, place) for place in range(1, len(letters)))


@pytest.mark.parametrize("piece", ["a", "a.", "A1", "1a", "é-", "1 a "])
def test_a_million_letters_without_an_end_are_read_in_one_go(piece):
    """From every letter to the end of the run these would be hours."""
    text = piece * (1_000_000 // len(piece))
    assert scrub(text) == text


@given(st.text(max_size=60) | st.text("a1@.+- ", max_size=30))
def test_a_scrubbed_text_has_nothing_left_to_scrub(text):
    assert scrub(scrub(text)) == scrub(text)


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(module).failed == 0
