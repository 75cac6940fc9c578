"""The object API in a notebook, which a real kernel plays."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

CELLS = (
    """
from torch import nn, optim, rand
from llmagentos import FederatedLearning

fl = FederatedLearning(nn.Linear(2, 1), nn.functional.mse_loss, optim.SGD)
for name in "north", "south":
    fl.add_client(name, [(rand(2), rand(1)) for _ in range(8)])
""",
    "reports = fl.train(num_rounds=3)",
    "fl.train(num_rounds=3)",
    "fl.get_global_model()",
)


def test_a_notebook_shows_a_bar_and_what_the_rounds_came_to():
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS)))
    nbclient.NotebookClient(book, timeout=300).execute()
    _, first, again, model = ([out.get("data", {}) for out in cell.outputs] for cell in book.cells)
    assert any("application/vnd.jupyter.widget-view+json" in data for data in first)
    assert "rounds 1 to 3, 2 clients: training loss" in first[-1]["text/plain"]
    assert again[-1]["text/plain"].count("RoundReport(round=") == 3
    assert model[-1]["text/plain"].startswith("Linear(")
