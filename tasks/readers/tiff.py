"""TIFF files: PILATUS and other detectors, single images and multi-page stacks."""

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tasks.readers.frames import Frame, Layout, native
from tasks.readers.guard import UnsupportedError, reading, refusal
from tasks.readers.ifd import Directory, directories
from tasks.readers.packing import Source
from tasks.readers.pilatus import pilatus_values, saxslab_values

# tifffile reports oddities of a file by logging them; without any handler Python would print them to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_LAYOUT_TAGS = {273, 279, 324, 325}
_LONGEST_ARRAY = 64
_STACK_OF_IMAGEJ = re.compile(r"ImageJ=.*?images=(\d+)", re.DOTALL)


def peek(source: Source) -> Layout:
    """Layout from the directories, each strip checked against the length of the content."""
    with reading(source.path, "a TIFF file"), source.stream() as stream:
        return _layout(source.path, directories(stream))


def opened(path: Path, content: bytes) -> tuple[Layout, Callable[[int], Frame]]:
    """Layout, and the function that decodes one page."""
    with reading(path, "a TIFF file"):
        found = directories(io.BytesIO(content))
        layout = _layout(path, found)
        pages = [index for index, directory in enumerate(found) if not directory.is_preview]
        file = tifffile.TiffFile(io.BytesIO(content), name=path.name)
        if len(file.pages) != len(found):
            raise ValueError(f"{len(file.pages)} of {len(found)} pages can be read")
        first = _header(file.pages[pages[0]])
        stack = _STACK_OF_IMAGEJ.match(first.get("ImageDescription", ""))
        if stack and int(stack[1]) != len(pages):
            raise UnsupportedError(
                f"an ImageJ stack of {stack[1]} images behind {len(pages)} pages: save it as multi-page TIFF"
            )

    def frame(index: int) -> Frame:
        with reading(path, f"page {pages[index]} of a TIFF file"):
            page = file.pages[pages[index]]
            counts = native(np.asarray(page.asarray(maxworkers=1)))
            return Frame(counts, first | _header(page) if index else dict(first))

    return layout, frame


def _layout(path: Path, found: list[Directory]) -> Layout:
    images = [directory for directory in found if not directory.is_preview]
    kinds = {(image.shape, image.dtype) for image in images}
    if len(kinds) != 1:
        raise refusal(path, f"images of several kinds in one TIFF file: {sorted(kinds)}", "Write one kind per file.")
    return Layout(len(images), images[0].shape, images[0].dtype, images[0].model)


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
