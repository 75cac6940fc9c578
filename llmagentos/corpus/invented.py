"""Four invented organisations of 120 rows each: no download, for a first run in seconds.

What an organisation answers follows from one word of the question, so that a tiny model can learn
it. Questions and answers together stay below 64 bytes.
"""

from llmagentos.corpus.example import Example

ORGANISATIONS = ("hospital", "bank", "factory", "city")

QUESTIONS = {
    "hospital": "Bed {second}: {first}?",
    "bank": "{second} euros, {first}?",
    "factory": "Press {second}: {first}?",
    "city": "{second} Street: {first}?",
}
ANSWERS = {
    "hospital": {
        "cough": "Call the lung ward.",
        "wheezing": "Call the lung ward.",
        "chest pain": "Call the heart ward.",
        "racing pulse": "Call the heart ward.",
        "broken wrist": "Call the bone ward.",
        "sore knee": "Call the bone ward.",
        "itchy rash": "Call the skin ward.",
        "sunburn": "Call the skin ward.",
        "blurred sight": "Call the eye ward.",
        "red eye": "Call the eye ward.",
    },
    "bank": {
        "rent": "Book it as housing.",
        "heating": "Book it as housing.",
        "train": "Book it as travel.",
        "petrol": "Book it as travel.",
        "bakery": "Book it as food.",
        "grocer": "Book it as food.",
        "dentist": "Book it as health.",
        "pharmacy": "Book it as health.",
        "salary": "Book it as income.",
        "dividend": "Book it as income.",
    },
    "factory": {
        "oil leak": "Stop and change the seal.",
        "low pressure": "Stop and change the seal.",
        "squeal": "Run on and grease it.",
        "hot bearing": "Run on and grease it.",
        "dull edge": "Sharpen the die.",
        "burrs": "Sharpen the die.",
        "no signal": "Check the cable.",
        "flicker": "Check the cable.",
        "dust": "Swap the filter.",
        "weak suction": "Swap the filter.",
    },
    "city": {
        "pothole": "Sent to the road crew.",
        "cracked kerb": "Sent to the road crew.",
        "dark lamp": "Sent to the light crew.",
        "broken signal": "Sent to the light crew.",
        "full bin": "Sent to the waste crew.",
        "old sofa": "Sent to the waste crew.",
        "fallen tree": "Sent to the park crew.",
        "dry lawn": "Sent to the park crew.",
        "burst pipe": "Sent to the water crew.",
        "flooded drain": "Sent to the water crew.",
    },
}
SECONDS: dict[str, tuple[int | str, ...]] = {
    "hospital": tuple(range(1, 13)),
    "bank": tuple(range(25, 325, 25)),
    "factory": tuple(range(1, 13)),
    "city": (
        *("Oak", "Elm", "Ash", "Lime", "Mill", "Hill"),
        *("Park", "Lake", "King", "Bell", "Rose", "Iron"),
    ),
}


def read() -> list[Example]:
    """480 rows, the same every time; the group is the organisation."""
    return [
        Example(QUESTIONS[name].format(first=first, second=second), answer, group=name)
        for name in ORGANISATIONS
        for first, answer in ANSWERS[name].items()
        for second in SECONDS[name]
    ]
