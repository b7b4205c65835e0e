"""Volumes in files: a stack in one file, or a folder or glob of slices; PNG, and what the detector readers read."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tasks.errors import FrameReadError, SourceError
from tasks.readers import file_format, find_files, frame_number, natural_key, open_file, peek_file
from tasks.readers.names import ALLOWED

PNG = ".png"


@dataclass(frozen=True)
class SliceFiles:
    """Slices in natural order. numbered: every file has a number in its name, which `numbers` are then."""

    source: str
    depth: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    numbers: tuple[int, ...]
    numbered: bool
    read: Callable[[int], NDArray[Any]]


def find_slices(source: str, resolved: str) -> SliceFiles:
    """The files of a source; their headers are looked at, their pixels are not. Raises `SourceError`."""
    files = _files(resolved)
    peeks = [_peek(file) for file in files]
    kinds = {(shape, dtype) for _, shape, dtype in peeks}
    if len(kinds) > 1:
        described = "; ".join(f"{dtype} of {shape[0]} x {shape[1]}" for shape, dtype in sorted(kinds)[:4])
        raise SourceError(f"the files of {source} are of several kinds ({described}); give those of one kind")
    (shape, dtype), depths = kinds.pop(), [n for n, _, _ in peeks]
    places = [(file, number) for file, depth in zip(files, depths, strict=True) for number in range(depth)]
    found = [frame_number(_stem(file)) for file in files]
    numbered = set(depths) == {1} and None not in found
    numbers = tuple(number or 0 for number in found) if numbered else tuple(range(len(places)))
    if len(set(numbers)) != len(numbers):
        double = next(number for number in numbers if numbers.count(number) > 1)
        raise SourceError(f"two files of {source} have the number {double} in their names; give one series at a time")
    return SliceFiles(
        source, len(places), shape, np.dtype(dtype), numbers, numbered, lambda number: _read(*places[number])
    )


def _files(resolved: str) -> tuple[Path, ...]:
    path = Path(resolved)
    if path.is_file() and path.suffix.lower() == PNG:
        return (path,)
    if path.is_dir():
        pngs = [file for file in path.iterdir() if _is_png(file)]
    else:
        pngs = [Path(file) for file in glob.glob(resolved, recursive=True) if _is_png(Path(file))]  # noqa: PTH207
    if not pngs:
        return find_files(resolved)
    others = [file.name for file in path.iterdir() if file_format(file)] if path.is_dir() else []
    if others:
        raise SourceError(
            f"{resolved} holds {len(pngs)} PNG files and {len(others)} others ({others[0]}, …); give one kind by a "
            f"quoted glob, such as '{resolved}/*.png'"
        )
    return tuple(sorted(pngs, key=natural_key))


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == PNG and not path.name.startswith(".") and path.is_file()


def _stem(path: Path) -> Path:
    # PNG is no suffix that frames have, so that its digits, if any, would count.
    return path.with_suffix("") if path.suffix.lower() == PNG else path


def _peek(path: Path) -> tuple[int, tuple[int, int], str]:
    """Slices, shape and type of a file."""
    if path.suffix.lower() == PNG:
        pixels = _png(path)
        return 1, (pixels.shape[0], pixels.shape[1]), pixels.dtype.name
    if file_format(path) is None:
        raise SourceError(f"{path} is no image by its suffix; allowed are {PNG}, {ALLOWED}, and Zarr")
    try:
        found = peek_file(path)
    except FrameReadError as error:
        raise SourceError(f"a slice cannot be read: {error}") from error
    return found.n_frames, found.shape, found.dtype


def _read(path: Path, number: int) -> NDArray[Any]:
    if path.suffix.lower() == PNG:
        return _png(path)
    with open_file(path) as file:
        return np.asarray(file.read(number).counts)


def _png(path: Path) -> NDArray[Any]:
    """Values of a grey or palette image; those of a palette are the numbers of its entries, as labels have them."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise SourceError(
                    f"{path} is a color image ({image.mode}), whose colors are no classes; save it as grey or palette"
                )
            return np.asarray(image)
    except (UnidentifiedImageError, SyntaxError, OSError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} is no readable PNG: {error}") from error
