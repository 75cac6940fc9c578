"""Fixtures of all tests, and the faults injected, counted by kind and told at the end."""

import tempfile
from collections import Counter
from pathlib import Path

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


@pytest.fixture
def one_thread():
    """torch computes on one thread, as agents do that must end with the same bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def place(tmp_path):
    """A folder, in memory where there is such a place: a kill loses nothing that was written."""
    if not IN_MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[TRIED]
    if counts:
        terminalreporter.section(f"{counts.total()} faults injected")
        for kind, count in sorted(counts.items()):
            terminalreporter.line(f"{count:6d}  {kind}")
