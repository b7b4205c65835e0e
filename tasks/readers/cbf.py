"""CBF files: PILATUS ("miniCBF") and full imgCIF, one image, byte-offset compression.

Checked: declared size against the file, Content-MD5, number of elements, exact end of the compressed stream, the
boundary that closes the binary section.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fabio.ext.byte_offset import dec_cbf, dec_cbf32
from numpy.typing import NDArray

from tasks.readers.cif import cif_values, section_fields
from tasks.readers.frames import Frame, Layout
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.packing import Source
from tasks.readers.pilatus import pilatus_values

_BOUNDARY = b"--CIF-BINARY-FORMAT-SECTION--"
_CLOSING = re.compile(rb"\s*--CIF-BINARY-FORMAT-SECTION----\s*;")
_START = b"\x0c\x1a\x04\xd5"
_TEXT = "_array_data.header_contents"
# Sixteen differences of one byte. A stream that ends properly is followed by sixteen more elements; one that ends
# inside a longer difference (2 + 4 + 8 bytes) swallows some, where fabio's decoder would read past the end.
_SENTINEL = bytes([1]) * 16


@dataclass(frozen=True)
class _Section:
    """The binary section as its header declares it; pixels are content[start:start + size]."""

    start: int
    size: int
    padding: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    fields: dict[str, str]
    header: dict[str, str]


def peek(source: Source) -> Layout:
    """Layout from the header; refused where the file is visibly too short."""
    head = source.head(8192)
    if _START not in head:
        head = source.head(2**20)
    section = _section(source.path, head)
    if not source.holds(section.start + section.size + section.padding + len(_BOUNDARY)):
        raise _truncated(source.path, section, source.n_bytes)
    return _layout(section)


def opened(path: Path, content: bytes) -> tuple[Layout, Callable[[int], Frame]]:
    """Layout, and the function that decodes the one frame."""
    section = _section(path, content)

    def frame(_index: int) -> Frame:
        return Frame(_pixels(path, content, section), section.header | section.fields)

    return _layout(section), frame


def _layout(section: _Section) -> Layout:
    return Layout(1, section.shape, section.dtype.name, section.header.get("Detector"))


def _section(path: Path, content: bytes) -> _Section:
    start, opening = content.find(_START), content.find(_BOUNDARY)
    if start < 0 or not 0 <= opening < start:
        raise refusal(path, "not a CBF file, or its header is cut off: no binary section found")
    text = content[:opening].decode("latin-1")
    fields = section_fields(content[opening:start].decode("latin-1"))
    with reading(path, "a CBF header"):
        if fields.get("conversions", "").lower() != "x-cbf_byte_offset":
            raise UnsupportedError(f"compression {fields.get('conversions')!r}; only x-CBF_BYTE_OFFSET is read")
        if fields.get("X-Binary-Element-Byte-Order", "LITTLE_ENDIAN") != "LITTLE_ENDIAN":
            raise UnsupportedError(f"byte order {fields['X-Binary-Element-Byte-Order']!r}; only LITTLE_ENDIAN is read")
        shape = (int(fields["X-Binary-Size-Second-Dimension"]), int(fields["X-Binary-Size-Fastest-Dimension"]))
        if int(fields.get("X-Binary-Size-Third-Dimension", 1)) > 1:
            raise UnsupportedError("the binary section holds a volume; only single images are read")
        declared = int(fields.get("X-Binary-Number-of-Elements", shape[0] * shape[1]))
        if min(shape) < 1 or declared != shape[0] * shape[1]:
            raise ValueError(f"{declared} elements declared for {shape[0]} x {shape[1]} pixels")
        if int(fields["X-Binary-Size"]) < declared:
            raise ValueError(f"{fields['X-Binary-Size']} bytes declared for {declared} elements of a byte or more")
        return _Section(
            start=start + len(_START),
            size=int(fields["X-Binary-Size"]),
            padding=int(fields.get("X-Binary-Size-Padding", 0)),
            shape=shape,
            dtype=_element_type(fields["X-Binary-Element-Type"]),
            fields=fields,
            header=_header(text),
        )


def _element_type(text: str) -> np.dtype[Any]:
    match = re.fullmatch(r"(un)?signed (8|16|32|64)-bit integer", text)
    if match is None:
        raise UnsupportedError(f"element type {text!r}; signed and unsigned integers of 8, 16, 32 and 64 bits are read")
    return np.dtype(f"{match[1] or ''}int{match[2]}".replace("unint", "uint"))


def _header(text: str) -> dict[str, str]:
    values = cif_values(text)
    values.pop("_array_data.data", None)
    contents = values.pop(_TEXT, "")
    return values | pilatus_values(contents)


def _truncated(path: Path, section: _Section, n_bytes: int) -> Exception:
    present = max(0, min(section.size, n_bytes - section.start))
    return refusal(path, f"truncated CBF: {section.size} bytes of pixels and their end declared, {present} present")


def _pixels(path: Path, content: bytes, section: _Section) -> NDArray[Any]:
    end = section.start + section.size
    # Writers disagree with their own padding (fabio: 1 declared, none written), and it may hold anything.
    closing = _CLOSING.match(content, end + section.padding) or _CLOSING.match(content, end)
    if len(content) < end or closing is None:
        raise _truncated(path, section, len(content))
    if content.find(_BOUNDARY, closing.end()) >= 0:
        raise refusal(path, "several images in one CBF file", "Write one image per file.")
    stream = memoryview(content)[section.start : end]
    if "Content-MD5" in section.fields:
        found = base64.b64encode(hashlib.md5(stream, usedforsecurity=False).digest()).decode()
        if found != section.fields["Content-MD5"]:
            raise refusal(path, f"corrupt CBF: Content-MD5 is {section.fields['Content-MD5']}, the pixels have {found}")
    with reading(path, "a byte-offset stream"):
        return _decoded(stream, section)


def _decoded(stream: memoryview, section: _Section) -> NDArray[Any]:
    n_elements = section.shape[0] * section.shape[1]
    followed = b"".join((stream, _SENTINEL))
    # A step of more than 31 bits, possible between int32 values, needs the 64-bit decoder. The other one cannot come
    # out even by chance: the upper bytes of such a step are 00 or FF, so that it yields two elements or more.
    decoders = (dec_cbf32, dec_cbf) if section.dtype.itemsize < 4 or section.dtype == np.int32 else (dec_cbf,)
    for decoder in decoders:
        values = np.asarray(decoder(followed, size=n_elements + len(_SENTINEL) + 1))
        if values.size == n_elements + len(_SENTINEL):
            return _narrowed(values[:n_elements], section.dtype).reshape(section.shape)
    raise ValueError(f"{values.size - len(_SENTINEL)} elements in the compressed stream, {n_elements} declared")


def _narrowed(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if values.dtype == dtype:
        return values
    limits = np.iinfo(dtype)
    # 32-bit steps may be stored modulo 2**32; the sum is right either way.
    if dtype.itemsize < 4 and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError(f"values from {values.min()} to {values.max()} in a stream of {dtype.name}")
    return values.astype(dtype)
