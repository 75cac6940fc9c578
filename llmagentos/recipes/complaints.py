"""What is wrong with a command line, in the words of the settings."""

import difflib
import re
from collections.abc import Collection, Sequence


def explained(message: str, flags: Collection[str]) -> str:
    """The parser's complaint as one sentence with the nearest known name."""
    names = sorted(flag.lstrip("-") for flag in flags)
    unknown = re.search(r"unrecognized arguments: --?([^\s=]+)", message)
    inside = re.search(r"Group '([^']+)' does not accept option '([^']+)'", message)
    outside = re.search(r"Option '([^']+)' is not accepted", message)
    if found := unknown or inside or outside:
        return _unknown(".".join(found.groups()), names)
    wrong = re.search(r'[Kk]ey "([^"]+)":\s*(.*)', message, re.DOTALL)
    if wrong:
        return _wrong(wrong[1], " ".join(wrong[2].split()), names)
    words = " ".join(message.split())
    if words.startswith("Unexpected config:"):
        held = words.removeprefix("Unexpected config:").strip() or "nothing"
        return f"--config: the file holds {held} in place of settings such as 'rounds: 3'"
    broken = words.removeprefix("Problems parsing config: ")
    return words if broken == words else f"--config: the file is not YAML ({broken}); mend it"


KINDS = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "text; put it in quotes",
    "list": "a list such as [a, b]",
    "dict": "a mapping such as {name: value}",
    "NoneType": "null",
}
"""What people call the types of settings."""


def _wrong(name: str, complaint: str, names: Sequence[str]) -> str:
    """A setting, what it was given and what it needs, without the names of Python's types."""
    given = re.search(r".*(?:(?:Got|Given) value: (.*)|load config \"(.*)\")", complaint)
    value = (given[1] or given[2] or "") if given else ""
    inside = [one for one in names if one.rpartition(".")[0] == name]
    if inside:
        return f"{name}={value!r}: is a group of settings; set one of {', '.join(inside)}"
    choices = re.search(r"typing\.Literal\[([^\]]+)\]", complaint)
    if choices:
        known = re.findall(r"'([^']+)'", choices[1])
        return f"{name}={value!r}: needs one of {', '.join(known)}{_near(value, known)}"
    kinds = re.findall(r"Expected an? (?:<class ')?(\w+)", complaint)
    if kinds:
        return f"{name}={value!r}: needs {' or '.join(KINDS.get(kind, kind) for kind in kinds)}"
    return f"{name}: {complaint}"


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(name: str, names: Sequence[str]) -> str:
    """The unknown setting, and those of this name in a group, else the one spelled alike."""
    near = [one for one in names if one.endswith(f".{name}")]
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "see --help"
    return f"unknown setting {name}; {hint}"
