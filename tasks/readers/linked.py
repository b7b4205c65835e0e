"""Files behind an HDF5 file: external links and sources of virtual datasets."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from tasks.errors import FrameReadError
from tasks.readers.guard import reading, refusal

_DATA = re.compile(r"(?P<series>.+)_data_[0-9]+\.h5")


def linked_names(path: Path, files: list[Path]) -> set[Path]:
    """Those of `files` whose frames are reached through `path`.

    An EIGER master that cannot be read claims the data files of its series by name: once complete it will list them.
    """
    if _DATA.fullmatch(path.name):
        return set()
    try:
        with reading(path, "HDF5"), h5py.File(path, "r", locking=False) as file:
            targets = {target.resolve() for target in linked_files(file, path)}
    except FrameReadError:
        series = path.name.removesuffix("_master.h5")
        beside = [file for file in files if file.parent == path.parent]
        return {file for file in beside if (match := _DATA.fullmatch(file.name)) and match["series"] == series}
    targets.discard(path.resolve())
    return {file for file in files if file.resolve() in targets}


def linked_files(file: h5py.File, path: Path) -> list[Path]:
    """Every other file that this one refers to, whether it exists or not, each once."""
    return list(dict.fromkeys(place(path, name) for name in _references(file) if name != "."))


def files_behind(path: Path) -> list[Path]:
    """All files whose content an HDF5 file can show as its own, also through others; none for an unreadable one."""
    found: list[Path] = []
    waiting = [path]
    while waiting:
        here = waiting.pop()
        with suppress(FrameReadError, OSError), reading(here, "HDF5"), h5py.File(here, "r", locking=False) as file:
            raw = [place(here, name) for name in _raw_files(file)]
            new = [target for target in dict.fromkeys([*linked_files(file, here), *raw]) if target not in found]
            found += new
            waiting += [target for target in new if target not in raw]
    return found


def place(path: Path, name: str) -> Path:
    """Where HDF5 looks for a file named inside the file `path`: beside it, or at the absolute path if that exists."""
    target = Path(name)
    if target.is_absolute() and not target.exists():
        target = Path(target.name)
    return path.parent / target


def follow(group: h5py.Group, name: str, path: Path) -> Any:
    """The object under `group/name`, each link on the way checked.

    Raises
        FrameReadError: names the missing file or object.
    """
    item: Any = group.file if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            target = place(path, link.filename)
            if not target.is_file():
                raise refusal(path, f"{item.name}/{part} is in {target}, which is not there", "Bring that file along.")
        elif isinstance(link, h5py.SoftLink):
            item = follow(item, link.path, path)
            continue
        try:
            item = item[part]
        except (KeyError, ValueError, TypeError) as error:
            wanted = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else f"{item.name}/{part}"
            raise refusal(path, f"{wanted} is not there") from error
    return item


def _raw_files(file: h5py.File) -> list[str]:
    """Files without structure that hold the values of a dataset."""
    names: list[str] = []

    def look(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.extend(name for name, _, _ in item.external or ())

    file.visititems(look)
    return names


def _references(group: h5py.Group) -> Iterator[str]:
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            yield link.filename
        elif isinstance(link, h5py.HardLink):
            item = group[name]
            if isinstance(item, h5py.Group):
                yield from _references(item)
            elif isinstance(item, h5py.Dataset) and item.is_virtual:
                yield from (source.file_name for source in item.virtual_sources())
