"""How much room values take in a store, found out in memory."""

from typing import Any

import numpy.typing as npt
import zarr
from zarr.storage import MemoryStore

from tasks.store.layout import CODECS, Compression


def stored_bytes(values: npt.NDArray[Any], compression: Compression = "lz4") -> int:
    """Bytes of frames (frame, …), each compressed as in a shard.

    >>> import numpy as np
    >>> stored_bytes(np.zeros((2, 64, 64), "int32")) < 2 * 64 * 64 * 4 / 10
    True
    """
    held: dict[str, Any] = {}
    array = zarr.create_array(
        MemoryStore(held),
        shape=values.shape,
        chunks=(1, *values.shape[1:]),
        dtype=values.dtype,
        compressors=CODECS[compression],
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return sum(len(buffer) for key, buffer in held.items() if key != "zarr.json")
