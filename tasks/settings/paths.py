"""Confine what a flow may read and write to the roots that the site allows."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.errors import SettingsError, SourceError


class SiteSettings(BaseSettings):
    """What the person who runs the worker decides, by environment variables; not a flow parameter on purpose."""

    model_config = SettingsConfigDict(env_prefix="DLSIA_FLOWS_", frozen=True, extra="ignore")

    source_roots: str = Field(default="", description="Folders that flows may read, separated by ':'; empty: any.")
    store_roots: str = Field(default="", description="Folders that flows may write to, separated by ':'; empty: any.")
    models: str = Field(default="", description="Folder of the registered models; empty: `models` in the home folder.")
    home: str = Field(default="", description="The home folder; empty: `.home` in the checkout, or under ~/.local.")


def models_root() -> Path:
    """The folder of all registered models, links resolved; it need not exist."""
    site = SiteSettings()
    if site.models:
        return Path(site.models).expanduser().resolve()
    if site.home:
        return Path(site.home).expanduser().resolve() / "models"
    # As the embedded server has it, which may import nothing but the standard library.
    checkout = Path(__file__).resolve().parents[2]
    own = checkout / ".home" if (checkout / "pyproject.toml").is_file() else Path.home() / ".local/state/dlsia-flows"
    return own / "models"


def allowed_roots(kind: Literal["source", "store"]) -> list[Path]:
    """The folders under which paths must lie, links resolved; none: anywhere."""
    return [Path(root).resolve() for root in getattr(SiteSettings(), f"{kind}_roots").split(os.pathsep) if root]


def confine(path: str | Path, kind: Literal["source", "store"], roots: Sequence[Path] | None = None) -> Path:
    """Return the absolute path with symbolic links resolved, if it lies under an allowed root.

    roots: `allowed_roots(kind)`, from those who ask for many paths; to find them takes a millisecond.
    Raises `SourceError` or `SettingsError` for a path outside the roots in `DLSIA_FLOWS_SOURCE_ROOTS` or
    `DLSIA_FLOWS_STORE_ROOTS`; with no roots configured every path is allowed.

    >>> confine("/tmp/../tmp/scan", "source").name
    'scan'
    """
    roots = allowed_roots(kind) if roots is None else roots
    resolved = Path(path).expanduser().resolve()
    if not roots or any(resolved.is_relative_to(root) for root in roots):
        return resolved
    error = SourceError if kind == "source" else SettingsError
    raise error(
        f"{kind} {str(path)!r} resolves to {resolved}, which is outside the allowed roots "
        f"{', '.join(map(str, roots))}; move it there, or have DLSIA_FLOWS_{kind.upper()}_ROOTS changed "
        "in the environment of the worker"
    )
