"""Zarr arrays that others wrote, for reading: a path and, inside a group, a name."""

from pathlib import Path
from typing import Any

import zarr

from tasks.errors import SourceError
from tasks.store.layout import FORMAT

PREFERRED = "inpainted"
"""Of a scan store: measured pixels unchanged, gaps filled."""


def open_array(path: Path, name: str | None) -> zarr.Array[Any]:
    """The array at a path, or the one of that name in the group there, for reading only.

    name: None = the array itself, `inpainted` of a scan store, or the only array of a group.
    Raises `SourceError` for what is no Zarr, and where the name is needed or unknown; it lists the arrays.
    """
    try:
        found = zarr.open(path, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{path} cannot be opened as Zarr: {error}; give an array or a group of arrays") from error
    if isinstance(found, zarr.Array):
        if name is not None:
            raise SourceError(f"{path} is an array, so that there is no {name!r} in it; leave the name out")
        return found
    arrays = {key: item for key, item in found.members(max_depth=None) if isinstance(item, zarr.Array)}
    is_scan = all(found.attrs.get(key) == value for key, value in FORMAT.items())
    wanted = name or (PREFERRED if is_scan else next(iter(arrays)) if len(arrays) == 1 else None)
    if wanted not in arrays:
        asked = "several arrays" if wanted is None else f"no array {wanted!r}"
        raise SourceError(f"{path} has {asked}; it has {', '.join(sorted(arrays)) or 'none'}: say which one is meant")
    return arrays[wanted]
