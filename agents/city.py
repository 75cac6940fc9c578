"""A city's agent: what a citizen reported, and which office dealt with it.

Set --corpus to an export with the columns prompt and response. What it tries things out on are the
definitions of the transport industries: public text about the field, nobody's complaint.
"""

import re
import sys

from llmagentos import Example, Limits, Organisation, scrub, serve

ADDRESS = re.compile(
    r"\b(?:\d+\w? )?[A-Z][\w'-]+ (?:Street|St|Road|Rd|Avenue|Ave|Lane|Square)\b\.?(?: ?\d+\w?)?"
)


def to_example(row: dict[str, str]) -> Example | None:
    """A house number leads to a person; the office that answered does not."""
    return Example(ADDRESS.sub("[address]", scrub(row["prompt"])), scrub(row["response"]))


CITY = Organisation(
    description=__doc__,
    name="city",
    corpus="naics/transport",
    to_example=to_example,
    limits=Limits(rounds=100, steps=100, epochs=5, examples=50, held_out=5),
)

if __name__ == "__main__":
    sys.exit(serve(CITY))
