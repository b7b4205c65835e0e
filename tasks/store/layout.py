"""What a scan store holds: names, axes, types, fill values and compression of its arrays."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from zarr.codecs import BloscCodec

FORMAT = {"format": "dlsia-flows scan", "format_version": 1}
LARGEST_SHARD_BYTES = 192 * 2**20
LARGEST_SHARD_FRAMES = 16

Compression = Literal["zstd", "lz4"]
CODECS = {
    # Ratios and speeds on sparse 32-bit counts: zstd-3 about 18 at 1 GB/s a core, LZ4 about 11 at 3 GB/s.
    "zstd": BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
    "lz4": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
}


@dataclass(frozen=True)
class ArraySpec:
    """An array with one row per frame; `shape` and `axes` are those of one frame."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: str
    fill_value: float | int | bool
    compression: Compression = "lz4"
    attributes: dict[str, Any] = field(default_factory=dict)

    def shard_frames(self, store_shard_frames: int) -> int:
        """Frames per shard: a power of two that divides the store's, at most 192 MiB.

        >>> spec = ArraySpec("tiles", (92, 512, 128), ("tile", "tile_row", "tile_column"), "float32", 0.0)
        >>> spec.shard_frames(16)  # 24 MB a frame: 8 frames are 193 MB, within 192 MiB
        8
        """
        frames = store_shard_frames
        while frames > 1 and frames * self.frame_bytes > LARGEST_SHARD_BYTES:
            frames //= 2
        return frames

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def store_shard_frames(frame_bytes: int) -> int:
    """Frames that are read, hashed, written and owned together.

    >>> store_shard_frames(1679 * 1475 * 4), store_shard_frames(3269 * 3110 * 4)
    (16, 4)
    """
    frames = LARGEST_SHARD_FRAMES
    while frames > 1 and frames * frame_bytes > LARGEST_SHARD_BYTES:
        frames //= 2
    return frames
