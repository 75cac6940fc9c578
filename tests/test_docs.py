"""The pages keep up with the repository; mkdocs itself follows their links."""

import importlib
import importlib.util
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from llmagentos import Limits, RunSettings
from llmagentos.agent import AgentSettings
from llmagentos.recipes import serving, status
from llmagentos.recipes.cli import parse, parser_for
from llmagentos.recipes.command import Recipe, _parser, flat_settings, load_settings
from tests.test_imports import ROWS

ROOT = Path(__file__).parent.parent
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(FILES)}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SETTINGS = {*flat_settings(RunSettings()), *(f"limits.{item.name}" for item in fields(Limits))}

CERTIFICATE = {"server.key", "server.pem"}
"""Files that are called as settings are."""


def blocks(page, *languages):
    """The blocks of code of a page, without what they are indented by."""
    found = FENCE.findall(PAGES[page])
    return [re.sub(f"(?m)^{indent}", "", text) for indent, kind, text in found if kind in languages]


def spans(page):
    """What stands between backticks in the prose of a page."""
    prose = FENCE.sub("", PAGES[page])
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(page):
    """Programs of ours that a page starts, each with its words."""
    shell = "\n".join(blocks(page, "sh", "console", "")).replace("\\\n", " ")
    ours = r"(?:(?:python|pip) .*-m )?llmagentos(?:\.recipes\.| )(\w+)"
    start = re.compile(rf"\W*(?:{ours}|python (agents/\w+\.py))")
    for line in (*shell.splitlines(), *spans(page)):
        if found := start.match(line):
            words = shlex.split(line[found.end() :].replace("…", ""), comments=True)
            yield found[1] or found[2], words


def understood(program, words):
    """Whether a program takes the words; asked to print its settings, it does no more."""
    if program == "status":
        return bool(parse(status._parser(), words))
    if program == "enrol" and not words:
        return True
    if program.startswith("agents/"):
        spec = importlib.util.spec_from_file_location("script", ROOT / program)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        begin, told = serving.serve, [getattr(script, Path(program).stem.upper())]
    else:
        module = importlib.import_module(f"llmagentos.recipes.{program}")
        begin, told = module.main, [module.RECIPE] if program.endswith("_lora") else []
    try:
        begin(*told, [*words, "--print_config"])
    except SystemExit as end:
        return end.code == 0
    return False


def flags():
    """What the tuning programs, the agents and ``status`` know."""
    parsers = _parser(Recipe("fedavg_lora", "")), parser_for(AgentSettings, "agent.py", "")
    known = {flag for each in (*parsers, status._parser()) for flag in each._option_string_actions}
    return {flag.replace("_", "-") for flag in (*known, *serving.FLAGS)}


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_every_command_of_a_page_is_understood(page, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "trial.yaml").write_text("rounds: 5\n")
    for program, words in commands(page):
        assert understood(program, words), (program, words, capsys.readouterr().err)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("docs", "README"))])
def test_every_setting_of_a_page_exists(page, capsys):
    groups = "|".join({name.split(".")[0] for name in SETTINGS if "." in name})
    for span in set(spans(page)) - CERTIFICATE:
        for name in re.findall(rf"^(?:--)?((?:{groups})\.[\w.]+)", span):
            assert name in SETTINGS, span
        if span.startswith("--"):
            flag, *value = shlex.split(span)
            assert flag.replace("_", "-") in flags(), span
            if value and "." in flag:
                assert understood("fedavg_lora", [flag, *value]), span


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_settings_that_a_page_spells_out_load(page, tmp_path):
    for text in blocks(page, "yaml"):
        (tmp_path / "page.yaml").write_text(text)
        assert load_settings(tmp_path / "page.yaml") != RunSettings()


@pytest.mark.parametrize("page", PAGES)
def test_every_source_file_that_a_page_names_is_there(page):
    homes = [ROOT / home for home in ("", "llmagentos", "benchmarks", "agents", "tests/faults")]
    for span in spans(page):
        if re.fullmatch(r"[\w/.]+\.(py|pyi|hpp|cpp|cu)", span) and "NAME" not in span:
            assert any((home / span).is_file() for home in homes), span


def test_every_flag_that_a_page_gives_a_benchmark_is_one_of_its():
    shell = "\n".join(text for page in PAGES for text in blocks(page, "sh", ""))
    started = re.findall(r"python (benchmarks/\w+\.py)(.*)", shell)
    assert started
    for script, words in started:
        for flag in re.findall(r"--[a-z-]+", words):
            assert f'"{flag}"' in (ROOT / script).read_text(), (script, flag)


def test_the_page_of_named_runs_has_every_settings_file():
    named = re.findall(r"\| \[\w+\]\(\.\./recipes/(\w+)\.yaml\)", PAGES["docs/recipes.md"])
    assert sorted(named) == sorted(file.stem for file in (ROOT / "recipes").glob("*.yaml"))


def test_the_architectures_modules_lie_in_the_rows_that_imports_keep_to():
    table = PAGES["docs/architecture.md"].split("## Modules")[1].split("\n## ")[0]
    rows = [
        re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines() if "| `" in line
    ]
    assert [set(row) for row in rows] == ROWS[1:]
