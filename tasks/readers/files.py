"""Which files a source means: a folder, one file, or a glob."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import SourceError
from tasks.readers.linked import linked_names
from tasks.readers.names import ALLOWED, file_format, natural_key

_UNFINISHED = (".tmp", ".partial")


def find_files(source: str) -> tuple[Path, ...]:
    """The detector files of a source in natural order (9 before 10, by the path relative to the source).

    A folder is searched without its sub-folders; a glob may use `**`. Hidden and temporary files, and files of other
    suffixes (sidecars, logs, geometry), are left out; so are HDF5 files that another one of the list links to.

    Raises
        SourceError: nothing found; says what was looked for, what was there and what is allowed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        base, found = path, [path / entry.name for entry in os.scandir(path) if not _is_folder(entry)]
    elif path.exists() or not glob.has_magic(source):
        return (_single(path),)
    else:
        base = _fixed_part(path)
        # Path.glob would take hidden files and folders too.
        matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207
        found = [match for match in matches if not match.is_dir()]
    files = [file for file in found if _is_wanted(file.relative_to(base)) and file_format(file)]
    if not files:
        raise SourceError(f"no detector files in {source!r}: {_what_is_there(found, base)}. Allowed are {ALLOWED}.")
    files = _without_linked(files)
    return tuple(sorted(files, key=lambda file: natural_key(file.relative_to(base))))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A dangling link is no folder: it stays in the list, to be reported when it is opened.
    return entry.is_dir()


def _single(path: Path) -> Path:
    if not path.exists():
        raise SourceError(
            f"no such file or folder: {path}. Give a folder, a file, or a quoted glob such as '{path.parent}/*.cbf'."
        )
    if not file_format(path):
        raise SourceError(f"{path} is not a detector file by its suffix. Allowed are {ALLOWED}.")
    return path


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob before the first one with a wildcard."""
    fixed = Path(pattern.anchor)
    for part in pattern.parts[len(fixed.parts) :]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _is_wanted(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and not relative.name.lower().endswith(_UNFINISHED)


def _what_is_there(found: list[Path], base: Path) -> str:
    if not base.is_dir():
        return f"the folder {base} does not exist"
    if not found:
        return "nothing matches"
    names = sorted((file.name for file in found), key=natural_key)
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{len(names)} other files ({shown})"


def _without_linked(files: Iterable[Path]) -> list[Path]:
    """Leave out HDF5 files whose frames a master in the list presents: they would be ingested twice."""
    files = list(files)
    linked: set[Path] = set()
    for file in files:
        if file_format(file) == "hdf5":
            linked |= linked_names(file, files)
    return [file for file in files if file not in linked]
