"""The faults that a test run has injected, counted by kind and told at its end."""

from collections import Counter

import pytest

TRIED: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption(
        "--fault-seed", type=int, default=0, help="which faults the fault tests draw (default: 0)"
    )


def pytest_configure(config):
    config.stash[TRIED] = Counter()


@pytest.fixture
def fault_seed(request):
    """The seed that a fault test draws its faults from."""
    return request.config.getoption("--fault-seed")


@pytest.fixture
def tried(request):
    """Faults by kind; a test adds one for each that it has injected and survived."""
    return request.config.stash[TRIED]


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[TRIED]
    if counts:
        terminalreporter.section(f"{counts.total()} faults injected")
        for kind, count in sorted(counts.items()):
            terminalreporter.line(f"{count:6d}  {kind}")
