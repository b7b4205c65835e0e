"""The models of a site by name and version: `<root>/<name>/<version>/`, each made whole in one step and never changed.

The root is `DLSIA_FLOWS_MODELS`, by default `models` in the home folder. A version holds model.safetensors, model.json,
and what tells people of it: card.md, training.csv, report.html.
"""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlsia_core.networks import model_digest
from tasks.errors import SettingsError
from tasks.settings import confine
from tasks.settings.paths import models_root

MODEL_FILES = ("model.safetensors", "model.json")
FILES = (*MODEL_FILES, "training.csv", "training.json", "report.html")
"""What a version takes over from the folder of a training."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE)


@dataclass(frozen=True)
class NamedModel:
    """A model that somebody asked for: `label` is what results say of it, "name:version" or the folder as given."""

    label: str
    folder: Path


def check_name(name: str) -> str:
    """The name, if a model may be registered under it; else `SettingsError`.

    >>> check_name("saxs-2m")
    'saxs-2m'
    """
    if not NAME.fullmatch(name) or name.endswith(".part"):
        raise SettingsError(
            f"{name!r} is no name for a model; give letters, digits, '-', '_' and '.', beginning with a letter or a "
            "digit, at most 64; the version is counted by itself"
        )
    return name


def versions_of(name: str) -> list[int]:
    """Versions registered under a name, rising; none for a name that nobody has used."""
    folder = models_root() / check_name(name)
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(int(path.name) for path in found if re.fullmatch(r"[1-9]\d*", path.name))


def model_names() -> list[str]:
    """All names under which there is a version."""
    root = models_root()
    found = root.iterdir() if root.is_dir() else iter(())
    return sorted(path.name for path in found if NAME.fullmatch(path.name) and versions_of(path.name))


def named_model(model: str) -> NamedModel:
    """The model that is meant: "name" (its newest version), "name:version", or a folder: anything with a slash.

    Raises `SettingsError` for a name or version that is not registered (it lists those that are), `SourceError` for a
    folder outside the allowed roots. Whether the folder holds a model is for `tasks.models.find_model` to say.
    """
    if "/" in model:
        return NamedModel(model, confine(model, "source"))
    name, _, wanted = model.partition(":")
    versions = versions_of(name)
    if not versions:
        known = ", ".join(model_names()) or "none"
        raise SettingsError(
            f"no model is registered under {name!r} in {models_root()}; known names: {known}. Train one with "
            f"train_inpainting(name={name!r}), or give a folder, with a slash in it, as in './{name}'"
        )
    if wanted and wanted not in map(str, versions):
        raise SettingsError(
            f"model {name!r} has no version {wanted!r}; it has {', '.join(map(str, versions))}. Give one of them, or "
            f"{name!r} alone for the newest"
        )
    return _version(name, int(wanted or versions[-1]))


def register(name: str, folder: Path, card: Callable[[str], str]) -> NamedModel:
    """Register a copy of the model in `folder` as the next version; the same model again is the version that it has.

    card: the text of card.md, from the version's label. Killed at any moment, there is a whole version or none.
    """
    digest, root = model_digest(folder), models_root() / check_name(name)
    for version in versions_of(name):
        if model_digest(root / str(version)) == digest:
            return _version(name, version)
    # Named after what it will hold, so that a repetition of a killed registration clears away what that left.
    whole = root / f".{digest[:16]}.part"
    shutil.rmtree(whole, ignore_errors=True)
    # The home folder, if it is made here: the server refuses one that others may enter.
    models_root().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole.mkdir(parents=True)
    for name_of_file in FILES:
        if (folder / name_of_file).exists():
            shutil.copyfile(folder / name_of_file, whole / name_of_file)
    while True:
        version = max(versions_of(name), default=0) + 1
        (whole / "card.md").write_text(card(f"{name}:{version}"), encoding="utf-8")
        for file in whole.iterdir():
            _sync(file)
        _sync(whole)
        try:
            whole.rename(root / str(version))
        except OSError:
            if version in versions_of(name):
                continue  # another run was faster and took this number
            raise
        _sync(root)
        return _version(name, version)


def _version(name: str, version: int) -> NamedModel:
    root = models_root()
    folder = (root / name / str(version)).resolve()
    if not folder.is_relative_to(root):
        raise SettingsError(f"model {name}:{version} is a link to {folder}, which is outside {root}; put a copy there")
    return NamedModel(f"{name}:{version}", folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
