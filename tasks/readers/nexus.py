"""Where NeXus and EIGER files keep their images, and what else they say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.readers.guard import UnsupportedError
from tasks.readers.linked import follow

_EIGER_PART = re.compile(r"data_[0-9]+")
_LONGEST_TEXT = 2000


def image_datasets(file: h5py.File, path: Path) -> list[Any]:
    """The datasets whose last two axes are (y, x), in the order of their frames.

    Looked for in this order: the parts `data_000001`, … of an EIGER master; the default signal of a NeXus file;
    `data` in a group NXdata or in `entry/data`; the only stack of images in the file.

    Raises
        FrameReadError: a link on the way points to a file or dataset that is not there.
        UnsupportedError: no images, or several stacks and no word which one is meant.
    """
    groups = list(_data_groups(file, path))
    for group in groups:
        if parts := sorted(name for name in group if _EIGER_PART.fullmatch(name)):
            return [_images(follow(group, name, path)) for name in parts]
    if signal := _default_signal(file, path):
        return [_images(signal)]
    for group in groups:
        if name := _signal_name(group):
            return [_images(follow(group, name, path))]
    stacks = [item for item in _datasets(file) if item.ndim >= 3 and min(item.shape[-2:]) > 1]
    if len(stacks) != 1:
        names = ", ".join(item.name for item in stacks) or "none"
        raise UnsupportedError(f"it names no default signal, and holds not one stack of images ({names})")
    return stacks


def facts_of(file: h5py.File, n_frames: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Every scalar of the file as text with its unit, and those values that are given once per frame."""
    header: dict[str, str] = {}
    per_frame: dict[str, list[str]] = {}
    for item in _datasets(file):
        name, units = item.name.lstrip("/"), _text(item.attrs.get("units", ""))
        unit = f" {units}" if units else ""
        if item.size == 1:
            header[name] = (_text(item[()]) + unit)[:_LONGEST_TEXT]
        elif item.shape == (n_frames,):
            per_frame[name] = [_text(value) + unit for value in item[()]]
        elif item.ndim > 1:
            header |= {f"{name}@{key}": _text(value) for key, value in item.attrs.items() if np.size(value) == 1}
    return header, per_frame


def _images(item: Any) -> Any:
    if not isinstance(item, h5py.Dataset) or item.ndim < 2:
        raise UnsupportedError(f"{item.name} holds no images")
    return item


def _data_groups(file: h5py.File, path: Path) -> Iterator[h5py.Group]:
    """Groups NXdata of the entries, and entry/data whatever it calls itself."""
    for entry in _groups(file):
        for name in entry:
            if not isinstance(entry.get(name, getlink=True), h5py.HardLink):
                continue
            group = follow(entry, name, path)
            is_data = isinstance(group, h5py.Group) and (
                name == "data" or _text(group.attrs.get("NX_class", "")) == "NXdata"
            )
            if is_data:
                yield group


def _groups(group: h5py.Group) -> Iterator[h5py.Group]:
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink) and isinstance(group[name], h5py.Group):
            yield group[name]


def _default_signal(file: h5py.File, path: Path) -> Any:
    """The dataset that `default` attributes lead to, from the file over its entry to the signal; None without them."""
    group: Any = file
    while name := _text(group.attrs.get("default", "")):
        group = follow(group, name, path)
        if not isinstance(group, h5py.Group):
            raise ValueError(f"default {name!r} is no group")
    signal = _text(group.attrs.get("signal", ""))
    return follow(group, signal, path) if signal else None


def _signal_name(group: h5py.Group) -> str | None:
    if signal := _text(group.attrs.get("signal", "")):
        return signal
    return "data" if "data" in group.keys() else None  # noqa: SIM118  (`in group` is False for a dangling link)


def _datasets(group: h5py.Group) -> Iterator[Any]:
    """All datasets of this very file; links into other files are not followed."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item)
        elif isinstance(item, h5py.Dataset) and item.shape is not None:
            yield item


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
