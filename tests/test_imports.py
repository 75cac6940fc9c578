"""The shape of the package: imports point down, and torch stays where it belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmagentos"

ROWS = [
    {"__main__"},
    {"recipes", "api"},
    {"federation", "agent"},
    {"engines", "round_report"},
    {"aggregation"},
    {"strategies", "gate", "identity", "memory", "lm", "publish", "report", "tasks"},
    {"journal"},
    {"messages", "state"},
    {"adapter", "codecs", "corpus", "kernels", "rates"},
    {"settings", "packages", "folders", "layout", "scaled"},
    {"fields", "files", "seeds", "yaml_text"},
    {"errors"},
]
"""From the top down: a module imports from its own package or from a lower row."""

WITH_TORCH = {"lm", "api", "recipes"}

MODULES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})


def part_of(dotted):
    """The file or folder of the package that a dotted name lies in."""
    return dotted.split(".")[1]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = node.module == "llmagentos"
            yield from (f"llmagentos.{a.name}" for a in node.names) if inside else [node.module]


def row_of(part):
    return next(number for number, row in enumerate(ROWS) if part in row)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("llmagentos.") and part_of(name) != own:
            assert row_of(part_of(name)) > row_of(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_lives_in_the_model_half_only(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    heavy = {name.split(".")[0] for name in imported(path)} & {"torch", "peft", "accelerate"}
    assert own in WITH_TORCH or not heavy


def test_the_coordinators_half_starts_without_torch():
    code = (
        "import sys, llmagentos.federation, llmagentos.engines, llmagentos.corpus, "
        "llmagentos.report, llmagentos.publish, llmagentos.recipes.tuning, llmagentos.agent, "
        "llmagentos.engines.remote, llmagentos.recipes.serving\n"
        "print(*{'torch', 'transformers', 'peft', 'datasets', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
