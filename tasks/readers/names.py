"""What file names say: format, packing, order, frame number, doubles."""

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.readers.packing import PACKINGS, packing

SUFFIXES = {
    "cbf": (".cbf",),
    "tiff": (".tif", ".tiff"),
    "edf": (".edf",),
    "hdf5": (".h5", ".hdf5", ".hdf", ".nxs"),
}
_FORMAT = {suffix: name for name, suffixes in SUFFIXES.items() for suffix in suffixes}
ALLOWED = f"{', '.join(_FORMAT)}; all but HDF5 also {' and '.join(PACKINGS)}"

NaturalKey = tuple[tuple[tuple[str | int, ...], ...], str]


def file_format(path: Path) -> str | None:
    """ "cbf", "tiff", "edf" or "hdf5" by the suffix under `.gz` or `.bz2`; None for any other file.

    >>> file_format(Path("a_00001.CBF.gz")), file_format(Path("a.h5.gz")), file_format(Path("a.txt"))
    ('cbf', None, None)
    """
    bare = _unpacked_name(path)
    name = _FORMAT.get(Path(bare).suffix.lower())
    return None if name == "hdf5" and bare != path.name else name


def stem(path: Path) -> str:
    """The name without packing and format suffix.

    >>> stem(Path("run_1.5keV_00025.cbf.gz"))
    'run_1.5keV_00025'
    """
    bare = Path(_unpacked_name(path))
    return bare.stem if bare.suffix.lower() in _FORMAT else bare.name


def natural_key(path: str | Path) -> NaturalKey:
    """Sort key that puts 9 before 10 in every part of a path, and ignores case unless all else is equal.

    >>> sorted(["b_10.edf", "b_9.edf", "A_11/x.edf", "a_2/x.edf"], key=natural_key)
    ['a_2/x.edf', 'A_11/x.edf', 'b_9.edf', 'b_10.edf']
    """
    text = Path(path).as_posix()
    # Splitting at digits alternates text and number, so that text is compared with text and number with number.
    parts = tuple(
        tuple(int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(re.split(r"([0-9]+)", part)))
        for part in text.split("/")
    )
    return parts, text


def frame_number(path: str | Path) -> int | None:
    """The last number in the name, by which detectors count; None where there is none.

    >>> frame_number("name_00001_00025.cbf.gz"), frame_number("dark.edf")
    (25, None)
    """
    numbers = re.findall(r"[0-9]+", stem(Path(path)))
    return int(numbers[-1]) if numbers else None


def series_and_number(path: Path) -> tuple[str, int | None]:
    """What the names of a scan's files share, and the number by which they differ: the last one in the name.

    >>> series_and_number(Path("/d/a_0009.cbf")), series_and_number(Path("dark.edf"))
    (('/d/a_*', 9), ('dark', None))
    """
    name = stem(path)
    found = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", name)
    if found is None:
        return str(path.with_name(name)), None
    return str(path.with_name(f"{found[1]}*{found[3]}")), int(found[2])


def find_doubles(files: Iterable[Path]) -> dict[Path, Path]:
    """Files that hold the same frame as another one in the list: double -> the one that is kept.

    `x.cbf` and `x.cbf.gz` side by side are one frame; the uncompressed file is kept, and `.gz` rather than `.bz2`.
    """
    order = ("", *PACKINGS)
    kept: dict[Path, Path] = {}
    doubles: dict[Path, Path] = {}
    for path in sorted(files, key=lambda path: order.index(packing(path))):
        first = kept.setdefault(unpacked(path), path)
        if first != path:
            doubles[path] = first
    return doubles


def unpacked(path: Path) -> Path:
    """The path without `.gz` or `.bz2`: the same for all files that hold the same frame side by side."""
    return path.with_name(_unpacked_name(path))


def packed_otherwise(path: Path) -> list[Path]:
    """Where the same frame would be if it were packed, or packed in another way.

    >>> [other.name for other in packed_otherwise(Path("a.cbf.gz"))]
    ['a.cbf', 'a.cbf.bz2']
    """
    bare = unpacked(path)
    return [other for suffix in ("", *PACKINGS) if (other := bare.with_name(bare.name + suffix)) != path]


def _unpacked_name(path: Path) -> str:
    return path.name[: len(path.name) - len(packing(path))]
