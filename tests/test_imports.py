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
OUTSIDE = sorted(
    path for home in ("agents", "benchmarks") for path in (PACKAGE.parent / home).glob("*.py")
)
"""Scripts that no other test imports."""


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


def named_in(module):
    """The file of a module, and all that has a name in it, as its text says."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    file = next(f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file())
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
    yield from (path.stem for path in place.glob("*") if path.suffix in {"", ".py", ".pyi"})


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda p: str(p.relative_to(PACKAGE.parent)))
def test_what_scripts_import_from_the_package_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmagentos"):
            assert {alias.name for alias in node.names} <= set(named_in(node.module))


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
