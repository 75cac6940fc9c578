"""A hospital's agent: what a clinician wrote, and the diagnosis that was coded for it.

Set --corpus to an export with the columns prompt and response. What it tries things out on are the
terms of one chapter of ICD-10-CM: public text about the field, nobody's record.
"""

import sys

from llmagentos import Example, Limits, Organisation, scrub, serve

LONGEST_WORDS = 120


def to_example(row: dict[str, str]) -> Example | None:
    """Short notes only: a long one says too much about one patient."""
    note, diagnosis = scrub(row["prompt"]), scrub(row["response"])
    return Example(note, diagnosis) if len(note.split()) <= LONGEST_WORDS else None


HOSPITAL = Organisation(
    description=__doc__,
    name="hospital",
    corpus="icd10/circulatory",
    to_example=to_example,
    # Few passes over many rows; and no loss of less than ten patients is told.
    limits=Limits(rounds=50, steps=100, epochs=3, examples=200, rows=10, held_out=10),
)

if __name__ == "__main__":
    sys.exit(serve(HOSPITAL))
