"""EDF files of one or several frames. Every frame's declared size is checked against the bytes that are there."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tasks.readers.frames import Frame, Layout, native
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.packing import Source
from tasks.readers.sidecar import sidecar_values

_END = re.compile(rb"\}\r?\n")
_BLANK = b" \t\r\n\0"
_LONGEST_HEADER = 2**20
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
    """One frame: header, and where its pixels start in the content."""

    header: dict[str, str]
    start: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]


def peek(source: Source) -> Layout:
    """Layout from the headers; pixels are skipped, not read."""
    if source.packing == ".gz" and (lone := _lone_block(source)):
        return _layout(source.path, [lone])
    with source.stream() as stream:
        return _layout(source.path, _blocks(source.path, stream))


def opened(path: Path, content: bytes) -> tuple[Layout, Callable[[int], Frame]]:
    """Layout, and the function that gives one frame without decoding the others."""
    blocks = _blocks(path, io.BytesIO(content))
    beside = sidecar_values(path)

    def frame(index: int) -> Frame:
        block = blocks[index]
        n_pixels = block.shape[0] * block.shape[1]
        counts = np.frombuffer(content, block.dtype, n_pixels, block.start).reshape(block.shape)
        return Frame(native(counts), block.header | beside)

    return _layout(path, blocks), frame


def _layout(path: Path, blocks: list[_Block]) -> Layout:
    kinds = {(block.shape, block.dtype.name) for block in blocks}
    if len(kinds) != 1:
        raise refusal(path, f"frames of several kinds in one EDF file: {sorted(kinds)}", "Write one kind per file.")
    shape, dtype = kinds.pop()
    return Layout(len(blocks), shape, dtype, _value(blocks[0].header, "Detector", "DetectorName", "DetectorInfo"))


def _lone_block(source: Source) -> _Block | None:
    """The frame of a gzip file whose length says that it holds just one: nothing more needs to be unpacked."""
    stream = io.BytesIO(source.head(65536))
    with reading(source.path, "an EDF header"):
        header, start = _header(stream, 0)
        if not header or not source.is_exactly(start + _stored_size(header)):
            return None
        return _block(header, start)


def _blocks(path: Path, stream: BinaryIO) -> list[_Block]:
    length = stream.seek(0, io.SEEK_END)
    blocks: list[_Block] = []
    offset = 0
    with reading(path, "an EDF file"):
        while True:
            header, start = _header(stream, offset)
            if not header:
                break
            size = _stored_size(header)
            if start + size > length:
                raise refusal(
                    path, f"truncated EDF: frame {len(blocks)} declares {size} bytes, {max(0, length - start)} present"
                )
            if _holds_pixels(header):
                blocks.append(_block(header, start))
            offset = start + size
        if not blocks:
            raise ValueError("no frame in it")
    return blocks


def _header(stream: BinaryIO, offset: int) -> tuple[dict[str, str], int]:
    """The header that starts at `offset` and where it ends; an empty one where only blanks are left."""
    stream.seek(offset)
    text = b""
    while len(text) < _LONGEST_HEADER:
        more = stream.read(4096)
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
    rows, columns = int(_value(header, "Dim_2") or 1), int(_value(header, "Dim_1") or 0)
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
    if size < needed:
        raise ValueError(f"{size} bytes declared for {rows} x {columns} pixels of {dtype.name}, which need {needed}")
    return size


def _block(header: dict[str, str], start: int) -> _Block:
    shape, dtype = _pixel_format(header)
    return _Block(header, start, shape, dtype)
