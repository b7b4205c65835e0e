"""Whether the pixels of an HDF5 dataset are on disk, or would be read as fill values."""

import itertools
from pathlib import Path
from typing import Any

import h5py

from tasks.readers.guard import refusal
from tasks.readers.linked import place


def check_sources(dataset: Any) -> None:
    """Check that all sources of a virtual dataset exist with the declared extent and cover it; others pass.

    Raises
        FrameReadError: names the missing file or dataset, or says how much of the frames has no source.
    """
    if not dataset.is_virtual:
        return
    path = Path(dataset.file.filename)
    n_mapped = 0
    for source in dataset.virtual_sources():
        with _source_file(dataset, source.file_name) as file:
            found = file.get(source.dset_name)
            if not isinstance(found, h5py.Dataset):
                raise refusal(path, f"{dataset.name} needs {source.dset_name} of {file.filename}, which is not there")
            last = _source_bounds(source, found)[1]
            n_needed = int(source.vspace.get_select_npoints())
            n_mapped += n_needed
            too_short = len(last) != found.ndim or any(end >= size for end, size in zip(last, found.shape, strict=True))
            if too_short or n_needed > found.size:
                declared = tuple(end + 1 for end in last)
                raise refusal(path, f"{dataset.name} needs {declared} of {file.filename}, which has {found.shape}")
            check_sources(found)
    if n_mapped < dataset.size:
        raise refusal(path, f"{dataset.size - n_mapped} of {dataset.size} pixels of {dataset.name} have no source")


def check_written(dataset: Any, lead: tuple[int, ...]) -> None:
    """Check that everything under `dataset[lead]` was written.

    Raises
        ValueError: a chunk of it is not on disk.
    """
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            _check_source(dataset, source, lead)
    elif dataset.chunks is None:
        if not dataset.external and dataset.id.get_storage_size() == 0:
            raise ValueError(f"{dataset.name} of {dataset.file.filename} was declared, but never written")
    else:
        axes = zip(dataset.shape[len(lead) :], dataset.chunks[len(lead) :], strict=True)
        for rest in itertools.product(*(range(0, size, chunk) for size, chunk in axes)):
            if dataset.id.get_chunk_info_by_coord((*lead, *rest)).byte_offset is None:
                raise ValueError(f"{dataset.name} of {dataset.file.filename} was not written at {(*lead, *rest)}")


def _check_source(dataset: Any, source: Any, lead: tuple[int, ...]) -> None:
    """The part of one source that lies under `dataset[lead]`."""
    first, last = source.vspace.get_select_bounds()
    if any(not start <= i <= end for i, start, end in zip(lead, first, last, strict=False)):
        return
    with _source_file(dataset, source.file_name) as file:
        found = file[source.dset_name]
        begin, stop = _source_bounds(source, found)
        spans = [range(start, end + 1) for start, end in zip(begin, stop, strict=True)][:-2]
        # Mapped frame by frame (the usual case), frame i of the whole is frame i - first + begin of the source.
        if lead and spans and last[0] - first[0] == stop[0] - begin[0]:
            spans[0] = range(begin[0] + lead[0] - first[0], begin[0] + lead[0] - first[0] + 1)
        for index in itertools.product(*spans):
            check_written(found, index)


def _source_bounds(source: Any, found: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last index of what is taken from a source; a source taken whole has no selection, nor an extent."""
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        return (0,) * found.ndim, tuple(size - 1 for size in found.shape)
    begin, stop = source.src_space.get_select_bounds()
    return tuple(begin), tuple(stop)


class _source_file:  # noqa: N801  (reads as a function in `with`)
    """The file of a virtual source; "." is the dataset's own file, which stays open."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.own = dataset.file
        path = Path(self.own.filename)
        self.target = None if name == "." else place(path, name)
        if self.target is not None and not self.target.is_file():
            raise refusal(path, f"{dataset.name} needs {self.target}, which is not there", "Bring that file along.")

    def __enter__(self) -> Any:
        self.file = self.own if self.target is None else h5py.File(self.target, "r", locking=False)
        return self.file

    def __exit__(self, *_: object) -> None:
        if self.target is not None:
            self.file.close()
