"""Examples cut from arrays that need not fit in memory: anything that slices like an array."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses.labels import IGNORE_INDEX
from dlsia_core.training.examples import Batch, array_digest, labeled_batch


class SliceableArray(Protocol):
    """What a NumPy array, a memory map, a Zarr array and an HDF5 data set have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any:
        """Called with one index or slice per axis; what comes back is made a NumPy array."""
        ...


@dataclass(frozen=True)
class TiledExamples:
    """Tiles of many frames, read when they are asked for; memory is that of one batch.

    images: (frame, [more axes,] [channel,] [z,] y, x), real numbers; every tile of every frame is an example. Tiles
        that are cut already, (frame, tile, y, x), are frames with one more axis.
    targets: integers = labels, as images but without the channel axis, ignore_index where there is none; real numbers =
        values, as images, NaN where there is none; None = the image is its own target.
    tile_shape: ([z,] y, x) in pixels; its length tells how many axes are spatial. None = (y, x) of the images.
    step: from tile to tile; None = tile_shape. Where it does not divide, one more tile sits flush with the border.
    channel_axis: True where the axis before the spatial ones is the channel.
    ignore_index: the label that weighs nothing.
    digest_of_source: what tells these arrays from others, a ref's digest for example; None only for NumPy arrays in
        memory, whose values are hashed: nothing else can be read whole.
    A tile is read by slicing once, so that chunks of the size of a tile or a frame are read once per example, and
    larger ones several times. Images must be finite: what was not measured is to be filled before.
    Raises ArrayError for shapes or types that do not fit, SettingError for tiles, steps or a digest that do not.

    >>> frames = np.arange(12, dtype=np.float32).reshape(1, 2, 6)
    >>> examples = TiledExamples(frames, tile_shape=(2, 4), step=(2, 4))
    >>> [tile.tolist() for tile in examples.batch(0, np.array([0, 1])).inputs[:, 0, 0]]
    [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0]]
    """

    images: SliceableArray
    targets: SliceableArray | None = None
    tile_shape: tuple[int, ...] | None = None
    step: tuple[int, ...] | None = None
    channel_axis: bool = False
    ignore_index: int = IGNORE_INDEX
    digest_of_source: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile_shape", tuple(self.tile_shape or self.images.shape[-2:]))
        object.__setattr__(self, "step", tuple(self.step or self._tile))
        leading = len(self.images.shape) - len(self._tile) - self.channel_axis
        if leading < 1 or not math.prod(self.images.shape):
            raise ArrayError(
                f"images have shape {tuple(self.images.shape)} and channel_axis is {self.channel_axis}; wanted a frame "
                f"axis, channels where there are any, {len(self._tile)} spatial axes, and nothing empty"
            )
        self._require_targets()
        fits = all(1 <= tile <= size for tile, size in zip(self._tile, self._spatial, strict=True))
        if not fits or len(self._step) != len(self._tile) or min(self._step) < 1:
            raise SettingError(
                f"tile_shape is {self._tile} and step {self._step} for {self._spatial} px; wanted tiles of 1 px to "
                "that size, and as many steps, of at least 1"
            )
        if self.digest_of_source is None and not self._in_memory:
            raise SettingError(
                "digest_of_source is None and the arrays are not NumPy arrays in memory; give a text that tells these "
                "arrays from others: a checkpoint is known by it"
            )

    def __len__(self) -> int:
        return math.prod(self._leading) * len(self._origins)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> Batch:  # noqa: ARG002 - the same in every epoch
        places = [self._place(int(index)) for index in indices]
        inputs = _read(self.images, places, self.channel_axis).astype(np.float32)
        if not self.channel_axis:
            inputs = inputs[:, None]
        if self.targets is None:
            target = torch.from_numpy(inputs)
            return Batch(target, target, torch.ones_like(target))
        if self._labeled:
            return labeled_batch(inputs, _read(self.targets, places, False), self.ignore_index)
        values = _read(self.targets, places, self.channel_axis).astype(np.float32).reshape(inputs.shape)
        weight = torch.from_numpy(np.isfinite(values).astype(np.float32))
        return Batch(torch.from_numpy(inputs), torch.from_numpy(np.nan_to_num(values, posinf=0, neginf=0)), weight)

    @cached_property
    def digest(self) -> str:
        arrays = [self.images] if self.targets is None else [self.images, self.targets]
        source = self.digest_of_source
        if source is None:
            source = array_digest(*(np.asarray(array) for array in arrays))
        shapes = [(tuple(array.shape), str(array.dtype)) for array in arrays]
        return f"{source} {shapes} {self._tile} {self._step} {self.channel_axis} {self.ignore_index}"

    @property
    def _tile(self) -> tuple[int, ...]:
        return self.tile_shape or ()

    @property
    def _step(self) -> tuple[int, ...]:
        return self.step or ()

    @property
    def _spatial(self) -> tuple[int, ...]:
        return tuple(self.images.shape[len(self.images.shape) - len(self._tile) :])

    @property
    def _leading(self) -> tuple[int, ...]:
        return tuple(self.images.shape[: len(self.images.shape) - len(self._tile) - self.channel_axis])

    @property
    def _labeled(self) -> bool:
        return self.targets is not None and np.dtype(self.targets.dtype).kind in "iu"

    @property
    def _in_memory(self) -> bool:
        return all(type(array) is np.ndarray for array in (self.images, self.targets) if array is not None)

    @cached_property
    def _origins(self) -> list[tuple[int, ...]]:
        starts = [_origins(*sizes) for sizes in zip(self._spatial, self._tile, self._step, strict=True)]
        return list(itertools.product(*starts))

    def _place(self, index: int) -> "_Place":
        frame, tile = divmod(index, len(self._origins))
        window = zip(self._origins[tile], self._tile, strict=True)
        leading = tuple(map(int, np.unravel_index(frame, self._leading)))
        return leading, tuple(slice(start, start + size) for start, size in window)

    def _require_targets(self) -> None:
        if self.targets is None:
            return
        if np.dtype(self.targets.dtype).kind not in "iuf":
            raise ArrayError(f"targets are {self.targets.dtype}; wanted integers (labels) or real numbers (values)")
        wanted = (*self._leading, *self._spatial) if self._labeled else tuple(self.images.shape)
        if tuple(self.targets.shape) != wanted:
            raise ArrayError(
                f"targets are {self.targets.dtype} of shape {tuple(self.targets.shape)}; wanted {wanted} for images of "
                f"{tuple(self.images.shape)}"
            )


_Place = tuple[tuple[int, ...], tuple[slice, ...]]


def _read(array: SliceableArray, places: Sequence[_Place], channels: bool) -> NDArray[Any]:
    between = (slice(None),) if channels else ()
    return np.stack([np.asarray(array[(*leading, *between, *window)]) for leading, window in places])


def _origins(size: int, tile: int, step: int) -> list[int]:
    """Starts of the tiles along one axis: 110 px, tiles of 64, steps of 32 give 0, 32, 46."""
    return sorted({*range(0, size - tile + 1, step), size - tile})
