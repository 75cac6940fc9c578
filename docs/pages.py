"""The site is a part of the repository, every file under its own path: one link serves both."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
SHOWN = (
    "*.md",
    "docs/*.md",
    "docs/*.png",
    "docs/*.css",
    "benchmarks/*.md",
    "agents/*.py",
    "llmagentos/**/*.py",
    "recipes/*.yaml",
)
"""Pages, and the pictures and code that they link to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the theme and those that are shown; a page's address is its path."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = [path.relative_to(ROOT) for pattern in SHOWN for path in sorted(ROOT.glob(pattern))]
    where = (str(ROOT), config.site_dir, config.use_directory_urls)
    return Files([*theme, *(File(path.as_posix(), *where) for path in paths)])
