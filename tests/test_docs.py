"""The pages keep up with the repository; mkdocs itself follows their links."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def test_the_page_of_named_runs_has_every_settings_file():
    page = (REPOSITORY / "docs/recipes.md").read_text()
    named = re.findall(r"\| \[\w+\]\(\.\./recipes/(\w+)\.yaml\)", page)
    assert sorted(named) == sorted(file.stem for file in (REPOSITORY / "recipes").glob("*.yaml"))
