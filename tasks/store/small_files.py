"""Descriptions and small arrays, written straight to disk: files that zarr would write with the same bytes.

zarr takes each file through an event loop and a thread, and opens what it changes; a scan of some dozen frames is
mostly such files.
"""

import json
import uuid
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
import zarr
from zarr.abc.codec import SupportsSyncCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype

UNFINISHED = ".partial"
"""Ends the names of files that are being written, also by zarr; they are renamed once they are whole."""

Array = zarr.Array[Any]


def write_file(file: Path, content: bytes) -> None:
    """Write a file so that others see it whole or not at all."""
    part = file.with_name(f"{file.stem}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        part.write_bytes(content)
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
    part.replace(file)


def read_description(folder: Path) -> dict[str, Any]:
    """What zarr.json says of an array or group. Raises FileNotFoundError where there is none."""
    return cast(dict[str, Any], json.loads((folder / "zarr.json").read_bytes()))


def write_description(folder: Path, facts: dict[str, Any]) -> None:
    """Describe an array or group to zarr."""
    write_file(folder / "zarr.json", json.dumps(facts, indent=2).encode())


def describe_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Make a group, or give it other attributes."""
    write_description(folder, {"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def write_chunk(array: Array, number: int, values: npt.NDArray[Any]) -> None:
    """Write a whole chunk of an array with one axis, (element,) of its dtype.

    Nothing but fill values is no file, unless the array writes empty chunks, as zarr has it. Only for arrays whose
    codecs can do without an event loop, as all can that a store describes.
    """
    metadata = cast(Any, array.metadata)
    prototype, config = default_buffer_prototype(), array.async_array.config
    spec = ArraySpec(array.chunks, metadata.data_type, metadata.fill_value, config, prototype)
    store, key = array.store_path, metadata.encode_chunk_key((number,))
    file = Path(str(store.store.root), store.path, key)  # type: ignore[attr-defined]
    content: Any = prototype.nd_buffer.from_numpy_array(values)
    if not config.write_empty_chunks and content.all_equal(metadata.fill_value):
        file.unlink(missing_ok=True)
        return
    for codec in metadata.codecs:
        content = cast(SupportsSyncCodec, codec)._encode_sync(content, spec)
    write_file(file, content.to_bytes())
