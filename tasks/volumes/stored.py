"""Volumes in one array: Zarr and HDF5."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of detectors
import numpy as np
from numpy.typing import NDArray

from tasks.errors import SourceError
from tasks.readers.names import SUFFIXES
from tasks.store.arrays import open_array

Kind = Literal["zarr", "hdf5"]
Stored = tuple[tuple[int, ...], np.dtype[Any], Callable[[Any], NDArray[Any]]]


def stored_kind(path: Path) -> Kind | None:
    """ "zarr" or "hdf5", None for anything else."""
    if path.is_dir() and any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return "zarr"
    return "hdf5" if path.is_file() and path.suffix.lower() in SUFFIXES["hdf5"] else None


def open_stored(path: Path, kind: Kind, dataset: str | None) -> Stored:
    """Shape, type, and the function that reads at an index."""
    if kind == "zarr":
        array = open_array(path, dataset)
        return tuple(array.shape), np.dtype(array.dtype), lambda index: np.asarray(array[index])
    try:
        with h5py.File(path, "r", locking=False) as file:
            name = _dataset(file, path, dataset)
            shape, dtype = tuple(file[name].shape), np.dtype(file[name].dtype)
    except OSError as error:
        raise SourceError(f"{path} cannot be read as HDF5: {error}") from error

    def read(index: Any) -> NDArray[Any]:
        # Opened for each slice, so that no file stays open for as long as a training lasts.
        with h5py.File(path, "r", locking=False) as file:
            return np.asarray(file[name][index])

    return shape, dtype, read


def _dataset(file: h5py.File, path: Path, wanted: str | None) -> str:
    """The name of the data set that is meant."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 3) and item.dtype.kind in "biuf":
            found.append(name)

    file.visititems(look)
    if wanted is not None:
        if not isinstance(file.get(wanted), h5py.Dataset):
            raise SourceError(f"{path} has no data set {wanted!r}; it has {', '.join(found) or 'none of 2 or 3 axes'}")
        return wanted
    if len(found) != 1:
        raise SourceError(
            f"{path} has {len(found)} data sets of 2 or 3 axes ({', '.join(found) or 'none'}); say which one is meant"
        )
    return found[0]
