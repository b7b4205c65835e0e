"""TIFF files: PILATUS and other detectors, single images and multi-page stacks."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tasks.readers.content import Content
from tasks.readers.frames import Frame, Index, Layout, native
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.ifd import directories
from tasks.readers.pilatus import pilatus_values, saxslab_values

# tifffile reports oddities of a file by logging them; without any handler Python would print them to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_LAYOUT_TAGS = {273, 279, 324, 325}
_LONGEST_ARRAY = 64
_STACK_OF_IMAGEJ = re.compile(r"ImageJ=.*?images=(\d+)", re.DOTALL)


def index(path: Path, content: Content) -> Index:
    """Directories of the file, each strip checked against the length of the content."""
    with reading(path, "a TIFF file"), content.stream() as stream:
        found = directories(stream)
    images = [directory for directory in found if not directory.is_preview]
    kinds = {(image.shape, image.dtype) for image in images}
    if len(kinds) != 1:
        raise refusal(path, f"images of several kinds in one TIFF file: {sorted(kinds)}", "Write one kind per file.")
    return Index(Layout(len(images), images[0].shape, images[0].dtype, images[0].model), tuple(found))


@contextmanager
def frames(path: Path, content: Content, index: Index) -> Iterator[Callable[[int], Frame]]:
    """The function that decodes one page and reads no other."""
    pages = [number for number, directory in enumerate(index.entries) if not directory.is_preview]
    # Closed at the end: what refers to itself in a TiffFile would hold the content until the garbage is collected.
    with content.stream() as stream:
        with reading(path, "a TIFF file"):
            file = tifffile.TiffFile(stream, name=path.name)
            first = _first_header(file, pages, len(index.entries))

        def frame(number: int) -> Frame:
            with reading(path, f"page {pages[number]} of a TIFF file"):
                page = file.pages[pages[number]]
                counts = native(np.asarray(page.asarray(maxworkers=1)))
                return Frame(counts, first | _header(page) if number else dict(first))

        yield frame


def _first_header(file: tifffile.TiffFile, pages: list[int], n_pages: int) -> dict[str, str]:
    """Header of the first image; refused where not all images can be reached."""
    if len(file.pages) != n_pages:
        raise ValueError(f"{len(file.pages)} of {n_pages} pages can be read")
    first = _header(file.pages[pages[0]])
    stack = _STACK_OF_IMAGEJ.match(first.get("ImageDescription", ""))
    if stack and int(stack[1]) != len(pages):
        raise UnsupportedError(
            f"an ImageJ stack of {stack[1]} images behind {len(pages)} pages: save it as multi-page TIFF"
        )
    return first


def _header(page: Any) -> dict[str, str]:
    """Every tag as text, and the values that detectors put into the description; layout of the strips is left out."""
    values = {}
    for tag in page.tags:
        value = tag.value
        if tag.code in _LAYOUT_TAGS or (isinstance(value, tuple | np.ndarray) and len(value) > _LONGEST_ARRAY):
            continue
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        values[tag.name] = str(value).replace("\0", " ").strip()
    if saxslab := saxslab_values(values.get("Artist", "")):
        del values["Artist"]
    description = next((str(tag.value) for tag in page.tags if tag.code == 270), "")
    return values | pilatus_values(description) | saxslab
