"""A factory's agent: what a machine did, and what the crew did about it.

Set --corpus to an export of the shift book with the columns prompt and response. What it tries
things out on are the definitions of the manufacturing industries: public text about the field.
"""

import re
import sys

from llmagentos import Example, Limits, Organisation, scrub, serve

SIGNED = re.compile(r"\b(?i:signed|operator|shift lead)\s*:?\s*[A-Z][\w.]*(?:\s[A-Z][\w.]*)?")


def to_example(row: dict[str, str]) -> Example | None:
    """Who was at the machine is nobody's business; error codes and part numbers stay."""
    problem, remedy = (SIGNED.sub("[person]", scrub(row[name])) for name in ("prompt", "response"))
    return Example(problem, remedy)


FACTORY = Organisation(
    description=__doc__,
    name="factory",
    corpus="naics/manufacturing",
    to_example=to_example,
    # Bytes are dear on the shop floor's line, so a change has to be coded.
    limits=Limits(rounds=200, steps=200, epochs=5, examples=50, codecs=("int8", "top_k", "bf16")),
)

if __name__ == "__main__":
    sys.exit(serve(FACTORY))
