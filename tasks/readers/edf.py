"""EDF files of one or several frames. Every frame's declared size is checked against the bytes that are there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.readers.content import Content, Loaded
from tasks.readers.frames import Frame, Index, Layout, native
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.packing import Source
from tasks.readers.sidecar import sidecar_values

_END = re.compile(rb"\}\r?\n")
_BLANK = b" \t\r\n\0"
_LONGEST_HEADER = 2**20
# Writers round up to blocks of 512 bytes; more than that means that Dim_1, Dim_2 or DataType is damaged.
_LONGEST_PADDING = 512
# Names that occur in files: EDF and SAXS (ESRF), and those of fit2d and SPEC.
_TYPES = {
    "int8": ("signedbyte", "signed8"),
    "uint8": ("unsignedbyte", "unsigned8"),
    "int16": ("signedshort", "signed16"),
    "uint16": ("unsignedshort", "unsigned16", "unsignedshortinteger"),
    "int32": ("signedinteger", "signedlong", "signed32"),
    "uint32": ("unsignedinteger", "unsignedlong", "unsigned32"),
    "int64": ("signed64",),
    "uint64": ("unsigned64",),
    "float32": ("floatvalue", "float", "float32", "floatieee32", "real"),
    "float64": ("doublevalue", "double", "float64", "floatieee64", "doubleieee64"),
}
_DTYPE = {name: dtype for dtype, names in _TYPES.items() for name in names}
_BYTE_ORDER = {"lowbytefirst": "<", "highbytefirst": ">"}


@dataclass(frozen=True)
class _Block:
    """One frame: where its header and its pixels start in the content."""

    offset: int
    start: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]


def lone_layout(source: Source) -> Layout | None:
    """Layout of a gzip file whose length says that it holds just one frame: nothing more needs to be unpacked."""
    if source.packing != ".gz":
        return None
    content = Loaded(source.head(65536))
    with reading(source.path, "an EDF header"):
        header, start = _header(content, 0)
        if not header or not source.is_exactly(start + _stored_size(header)):
            return None
        shape, dtype = _pixel_format(header)
    return Layout(1, shape, dtype.name, _detector(header))


def index(path: Path, content: Content) -> Index:
    """Frames by their headers; pixels are skipped, not read."""
    blocks = _blocks(path, content)
    kinds = {(block.shape, block.dtype.name) for block in blocks}
    if len(kinds) != 1:
        raise refusal(path, f"frames of several kinds in one EDF file: {sorted(kinds)}", "Write one kind per file.")
    shape, dtype = kinds.pop()
    first, _ = _header(content, blocks[0].offset)
    return Index(Layout(len(blocks), shape, dtype, _detector(first)), tuple(blocks))


@contextmanager
def frames(path: Path, content: Content, index: Index) -> Iterator[Callable[[int], Frame]]:
    """The function that reads one frame and no other."""
    beside = sidecar_values(path)

    def frame(number: int) -> Frame:
        block: _Block = index.entries[number]
        n_pixels = block.shape[0] * block.shape[1]
        with reading(path, f"frame {number} of an EDF file"):
            header, _ = _header(content, block.offset)
            pixels = content.at(block.start, n_pixels * block.dtype.itemsize)
            counts = np.frombuffer(pixels, block.dtype, n_pixels).reshape(block.shape)
        return Frame(native(counts), header | beside)

    yield frame


def _blocks(path: Path, content: Content) -> list[_Block]:
    blocks: list[_Block] = []
    offset = 0
    with reading(path, "an EDF file"):
        while True:
            header, start = _header(content, offset)
            if not header:
                break
            size, present = _stored_size(header), max(0, content.n_bytes - start)
            if size > present:
                raise refusal(path, f"truncated EDF: frame {len(blocks)} declares {size} bytes, {present} present")
            if _holds_pixels(header):
                blocks.append(_Block(offset, start, *_pixel_format(header)))
            offset = start + size
        if not blocks:
            raise ValueError("no frame in it")
    return blocks


def _header(content: Content, offset: int) -> tuple[dict[str, str], int]:
    """The header that starts at `offset` and where it ends; an empty one where only blanks are left."""
    text = b""
    while len(text) < _LONGEST_HEADER:
        more = content.at(offset + len(text), 4096)
        text += more
        end = _END.search(text)
        if end:
            break
        if not more:
            if text.strip(_BLANK):
                raise ValueError(f"the header at byte {offset} has no end: the file is truncated, or not EDF")
            return {}, offset
    if not end or not text.lstrip(_BLANK).startswith(b"{"):
        raise ValueError(f"no EDF header at byte {offset}")
    return _entries(text[text.index(b"{") + 1 : end.start()]), offset + end.end()


def _entries(text: bytes) -> dict[str, str]:
    entries = {}
    for line in text.decode("latin-1").split(";"):
        name, separator, value = line.partition("=")
        if separator:
            entries[name.strip(" \t\r\n\0")] = value.strip(" \t\r\n\0")
    if not entries:
        raise ValueError("a header without a single entry")
    return entries


def _value(header: dict[str, str], *names: str) -> str | None:
    """The first of these entries that is there; files differ in the case of names."""
    lower = {name.lower(): value for name, value in header.items()}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _detector(header: dict[str, str]) -> str | None:
    return _value(header, "Detector", "DetectorName", "DetectorInfo")


def _holds_pixels(header: dict[str, str]) -> bool:
    # A file may start with a general block, and carry variances beside its images ("1.Image.Error").
    block = (_value(header, "EDF_DataBlockID") or "").lower()
    return _value(header, "DataType") is not None and not block.endswith((".error", ".variance"))


def _pixel_format(header: dict[str, str]) -> tuple[tuple[int, int], np.dtype[Any]]:
    for name in ("EDF_BinaryFileName", "Dim_3"):
        if _value(header, name) not in (None, "", "1"):
            raise UnsupportedError(f"{name} = {_value(header, name)} is not supported")
    if (_value(header, "Compression") or "none").lower() not in ("none", "nocompression", "no specific value"):
        raise UnsupportedError(f"Compression = {_value(header, 'Compression')} is not supported")
    # Not 1 where Dim_2 is missing: a damaged name would make the first row the image.
    rows, columns = int(_value(header, "Dim_2") or 0), int(_value(header, "Dim_1") or 0)
    if min(rows, columns) < 1:
        raise ValueError(f"{rows} x {columns} pixels declared")
    name, order = (_value(header, "DataType") or "").lower(), (_value(header, "ByteOrder") or "").lower()
    if name not in _DTYPE:
        raise UnsupportedError(f"DataType {name!r}; known are {', '.join(sorted(_DTYPE))}")
    dtype: np.dtype[Any] = np.dtype(_DTYPE[name])
    if order not in _BYTE_ORDER and dtype.itemsize > 1:
        raise UnsupportedError(f"ByteOrder {order!r}; known are LowByteFirst and HighByteFirst")
    return (rows, columns), np.dtype(_BYTE_ORDER.get(order, "=") + dtype.str[1:])


def _stored_size(header: dict[str, str]) -> int:
    """Bytes between this header and the next."""
    declared = _value(header, "EDF_BinarySize", "Size")
    if _value(header, "DataType") is None:
        return max(0, int(declared or 0))
    (rows, columns), dtype = _pixel_format(header)
    needed = rows * columns * dtype.itemsize
    size = needed if declared is None else int(declared)
    if not needed <= size < needed + _LONGEST_PADDING:
        raise ValueError(f"{size} bytes declared for {rows} x {columns} pixels of {dtype.name}, which need {needed}")
    return size
