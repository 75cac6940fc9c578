"""A bank's agent: a customer's question, and what the desk answered.

Set --corpus to an export with the columns prompt and response. What it tries things out on are the
definitions of the finance industries: public text about the field, nobody's account.
"""

import re
import sys

from llmagentos import Example, Limits, Organisation, scrub, serve

AMOUNT = re.compile(r"(?:EUR|USD|CHF|GBP|[€$£])\s?\d[\d.,]*|\d[\d.,]*\s?(?:EUR|USD|CHF|GBP|[€$£])")


def to_example(row: dict[str, str]) -> Example | None:
    """Exact amounts can name a customer too; cards and accounts are scrubbed with the rest."""
    question, answer = (AMOUNT.sub("[amount]", scrub(row[name])) for name in ("prompt", "response"))
    return Example(question, answer)


BANK = Organisation(
    description=__doc__,
    name="bank",
    corpus="naics/finance",
    to_example=to_example,
    # Plain averaging only: nothing that a regulator would have to be explained twice.
    limits=Limits(
        rounds=50,
        steps=60,
        epochs=5,
        examples=40,
        held_out=5,
        strategies=("fedavg", "fedavgm"),
    ),
)

if __name__ == "__main__":
    sys.exit(serve(BANK))
