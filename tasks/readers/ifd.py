"""The directories of a TIFF file, walked without decoding: is every strip inside the file?

tifffile passes over a chain that ends outside the file, and fills segments without bytes with zeros; hence this check.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from tasks.readers.guard import UnsupportedError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_KINDS = {1: "uint", 2: "int", 3: "float"}
_MOST_ENTRIES = 4096
# Deflate reaches 1032, LZW 1365 at most; memory for more is not asked for.
_MOST_PIXELS_PER_BYTE = 2000


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file as declared: shape (y, x), dtype name, detector model, whether it is only a preview."""

    shape: tuple[int, int]
    dtype: str
    model: str | None
    is_preview: bool


def directories(stream: BinaryIO) -> list[Directory]:
    """All directories of the chain.

    Raises
        ValueError: not a TIFF file, a directory or a segment of pixels outside the file, or pixels of a kind not read.
    """
    length = stream.seek(0, io.SEEK_END)
    walker = _Walker(stream, length)
    offset, seen = walker.first, set[int]()
    found: list[Directory] = []
    while offset:
        if offset in seen:
            raise ValueError("the chain of directories runs in a circle")
        seen.add(offset)
        tags, offset = walker.directory(offset)
        found.append(_checked(tags, walker, len(found)))
    if not found:
        raise ValueError("a TIFF file without an image")
    _refuse_overlaps(walker)
    return found


class _Walker:
    def __init__(self, stream: BinaryIO, length: int) -> None:
        self.stream, self.length = stream, length
        self.headers: list[tuple[int, int]] = [(0, 8)]
        self.pixels: list[tuple[int, int]] = []
        start = self._at(0, 4)
        self.order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
        version = struct.unpack(self.order + "H", start[2:])[0] if self.order else 0
        if version not in (42, 43):
            raise ValueError("not a TIFF file")
        self.is_big = version == 43
        self.word, self.count, self.entry = ("Q", "Q", 20) if self.is_big else ("I", "H", 12)
        self.first = self._number(self.word, 8 if self.is_big else 4)

    def _at(self, offset: int, n_bytes: int) -> bytes:
        if offset + n_bytes > self.length:
            raise ValueError(f"truncated TIFF: bytes up to {offset + n_bytes} declared, {self.length} present")
        self.stream.seek(offset)
        return self.stream.read(n_bytes)

    def _number(self, code: str, offset: int) -> int:
        return int(struct.unpack(self.order + code, self._at(offset, struct.calcsize("=" + code)))[0])

    def directory(self, offset: int) -> tuple[dict[int, Any], int]:
        """Tags of one directory as (type, count, value or offset bytes), and where the next one is."""
        n_entries = self._number(self.count, offset)
        if not 0 < n_entries <= _MOST_ENTRIES:
            raise ValueError(f"a directory with {n_entries} entries")
        start = offset + struct.calcsize("=" + self.count)
        block = self._at(start, n_entries * self.entry)
        self.headers.append((offset, start + len(block) - offset))
        tags = {}
        for i in range(n_entries):
            one = block[i * self.entry : (i + 1) * self.entry]
            tag, kind, count = struct.unpack_from(self.order + "HH" + self.word, one)
            field = one[-struct.calcsize("=" + self.word) :]
            tags[tag] = (kind, count, field)
            if (n_bytes := _SIZES.get(kind, 1) * count) > len(field):
                self.headers.append((self.word_of(field), n_bytes))
        return tags, self._number(self.word, start + n_entries * self.entry)

    def raw(self, entry: tuple[int, int, bytes]) -> bytes:
        """The bytes of a tag, kept in the directory itself where they fit."""
        kind, count, field = entry
        n_bytes = _SIZES.get(kind, 1) * count
        return field[:n_bytes] if n_bytes <= len(field) else self._at(self.word_of(field), n_bytes)

    def word_of(self, field: bytes) -> int:
        return int(struct.unpack(self.order + self.word, field)[0])

    def numbers(self, tags: dict[int, Any], *names: int) -> list[int]:
        """Integers of the first of these tags that is there."""
        name = next((name for name in names if name in tags), None)
        if name is None:
            return []
        entry = tags[name]
        if entry[0] not in _CODES:
            # To pass over it would take unsigned pixels for signed ones, where only its type is damaged.
            raise ValueError(f"tag {name} holds type {entry[0]}, where integers are needed")
        return list(struct.unpack(f"{self.order}{entry[1]}{_CODES[entry[0]]}", self.raw(entry)))


def _checked(tags: dict[int, Any], walker: _Walker, index: int) -> Directory:
    width, height = walker.numbers(tags, 256), walker.numbers(tags, 257)
    bits, kinds = walker.numbers(tags, 258) or [1], walker.numbers(tags, 339) or [1]
    if not width or not height or len(bits) > 1 or walker.numbers(tags, 277) not in ([], [1]):
        raise UnsupportedError(f"image {index} is no single plane of pixels (color images are not read)")
    if bits[0] not in (8, 16, 32, 64) or kinds[0] not in _KINDS:
        raise UnsupportedError(f"image {index} has pixels of {bits[0]} bits, sample format {kinds[0]}")
    dtype = np.dtype(f"{_KINDS[kinds[0]]}{bits[0]}")
    n_bytes = _inside(walker, tags, index)
    needed = width[0] * height[0] * dtype.itemsize
    is_plain, is_tiled = walker.numbers(tags, 259) in ([], [1]), 324 in tags
    # Tiles reach over the edges. More bytes than needed mean that the width, the height or the type is damaged.
    if is_plain and (n_bytes < needed or (n_bytes > needed and not is_tiled)):
        raise ValueError(f"image {index} has {n_bytes} bytes of pixels where {needed} are needed")
    if needed > _MOST_PIXELS_PER_BYTE * n_bytes:
        raise ValueError(f"image {index} has {n_bytes} bytes for {needed} of pixels, which no compression achieves")
    model = walker.raw(tags[272]).split(b"\0")[0].decode("latin-1").strip() if 272 in tags else None
    # NewSubfileType: bit 0 a smaller version of another image, bit 2 a transparency mask.
    preview = bool((walker.numbers(tags, 254) or [0])[0] & 0b101)
    return Directory((height[0], width[0]), dtype.name, model, preview)


def _inside(walker: _Walker, tags: dict[int, Any], index: int) -> int:
    """Sum of the sizes of all strips or tiles; each must lie inside the file and hold something."""
    offsets, sizes = walker.numbers(tags, 324, 273), walker.numbers(tags, 325, 279)
    if not offsets or len(offsets) != len(sizes):
        raise ValueError(f"image {index} does not say where its pixels are")
    for offset, size in zip(offsets, sizes, strict=True):
        if not offset or not size:
            raise ValueError(f"image {index} has a strip without bytes: it was not written completely")
        if offset + size > walker.length:
            raise ValueError(
                f"truncated TIFF: a strip of image {index} ends at byte {offset + size}, the file at {walker.length}"
            )
    walker.pixels += zip(offsets, sizes, strict=True)
    return sum(sizes)


def _refuse_overlaps(walker: _Walker) -> None:
    """A strip that shares bytes with another one, or with a directory, is not where its damaged offset says."""
    headers = [(start, n_bytes, False) for start, n_bytes in walker.headers]
    end, is_pixels = 0, False
    for start, n_bytes, pixels in sorted([*headers, *((*one, True) for one in walker.pixels)]):
        if start < end and (pixels or is_pixels):
            raise ValueError(f"pixels share bytes with something else at byte {start}: an offset is damaged")
        if start + n_bytes > end:
            end, is_pixels = start + n_bytes, pixels
