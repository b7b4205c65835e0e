"""Examples from arrays on disk: the same as from memory, whatever holds them; turned alike; read ahead in order."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses import CrossEntropy
from dlsia_core.tiling import TileGrid
from dlsia_core.training import (
    ArrayExamples,
    Augmented,
    Batch,
    Disturbed,
    Examples,
    LabeledExamples,
    SliceableArray,
    Subset,
    TiledExamples,
    TrainSettings,
    Warped,
    fit,
)
from dlsia_core.training.reading import read_ahead

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES = np.random.default_rng(0).normal(size=(3, 20, 26)).astype(np.float32)
LABELS = np.random.default_rng(1).choice([0, 1, 255], size=FRAMES.shape).astype(np.uint8)


def stored(kind: str, folder: Path, array: np.ndarray) -> SliceableArray:
    """The array in a file, chunked by frame where there are chunks."""
    if kind == "zarr":
        made = zarr.create_array(folder / "a.zarr", shape=array.shape, chunks=(1, *array.shape[1:]), dtype=array.dtype)
        made[...] = array
        return zarr.open_array(folder / "a.zarr", mode="r")
    if kind == "hdf5":
        return h5py.File(folder / "a.h5", "w").create_dataset("a", data=array, chunks=(1, *array.shape[1:]))
    np.save(folder / "a.npy", array)
    return np.load(folder / "a.npy", mmap_mode="r")


def same(ours: Batch, theirs: Batch) -> bool:
    pairs = zip((ours.inputs, ours.target, ours.weight), (theirs.inputs, theirs.target, theirs.weight), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def all_of(examples: Examples) -> Batch:
    return examples.batch(0, np.arange(len(examples)))


@pytest.mark.parametrize("kind", ["zarr", "hdf5", "memory map"])
def test_tiles_are_the_same_wherever_the_frames_lie(kind: str, tmp_path: Path) -> None:
    for name, targets in (("values", None), ("labels", LABELS)):
        folder = tmp_path / name
        (folder / "t").mkdir(parents=True)
        images = stored(kind, folder, FRAMES)
        others = None if targets is None else stored(kind, folder / "t", targets)
        ours = TiledExamples(images, others, (8, 8), (6, 7), digest_of_source="made above")
        assert same(all_of(ours), all_of(TiledExamples(FRAMES, targets, (8, 8), (6, 7))))
        with pytest.raises(SettingError, match="give a text that tells these arrays from others"):
            TiledExamples(images, others, (8, 8))


@given(rows=st.integers(1, 20), columns=st.integers(1, 26), data=st.data())
def test_tiles_lie_where_the_grid_puts_them(rows: int, columns: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    examples = TiledExamples(FRAMES[:2], tile_shape=(rows, columns), step=step)
    tiles = TileGrid((20, 26), (rows, columns), step).cut(FRAMES[:2]).reshape(-1, 1, rows, columns)
    assert len(examples) == len(tiles)
    assert np.array_equal(all_of(examples).inputs.numpy(), tiles)
    some = np.array([len(tiles) - 1, 0])
    assert np.array_equal(examples.batch(3, some).inputs.numpy(), tiles[some])


def test_whole_tiles_of_frames_with_a_tile_axis() -> None:
    """(frame, tile, y, x), as the pipeline stores them."""
    tiles = FRAMES.reshape(3, 2, 10, 26)
    assert np.array_equal(all_of(TiledExamples(tiles)).inputs.numpy(), tiles.reshape(6, 1, 10, 26))


def test_channels_and_volumes() -> None:
    channels = FRAMES.reshape(1, 3, 20, 26)
    batch = all_of(TiledExamples(channels, LABELS[:1], (20, 13), channel_axis=True))
    assert np.array_equal(batch.inputs.numpy(), np.stack([FRAMES[..., :13], FRAMES[..., 13:]]))
    assert np.array_equal(batch.target.numpy(), np.stack([LABELS[0, :, :13], LABELS[0, :, 13:]]))
    volume = all_of(TiledExamples(FRAMES[None], LABELS[None], (2, 20, 26)))
    assert volume.inputs.shape == (2, 1, 2, 20, 26)
    assert volume.target.shape == (2, 2, 20, 26)
    assert np.array_equal(volume.inputs[1, 0].numpy(), FRAMES[1:])


def test_labels_and_values_that_are_not_there_have_no_weight() -> None:
    labels = all_of(TiledExamples(FRAMES, LABELS))
    assert labels.target.dtype == torch.int64
    assert np.array_equal(labels.weight.numpy(), LABELS != 255)
    assert same(labels, all_of(LabeledExamples(FRAMES[:, None], LABELS)))
    holes = np.where(LABELS == 255, np.nan, 2 * FRAMES)
    values = all_of(TiledExamples(FRAMES, holes))
    assert np.array_equal(values.weight[:, 0].numpy(), LABELS != 255)
    assert np.array_equal(values.target[:, 0].numpy(), np.nan_to_num(holes).astype(np.float32))
    whole = all_of(TiledExamples(FRAMES))
    assert same(whole, all_of(ArrayExamples(FRAMES[:, None])))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"images": FRAMES[0]}, ArrayError, r"images have shape \(20, 26\)"),
        ({"images": FRAMES[:0]}, ArrayError, "nothing empty"),
        ({"channel_axis": True}, ArrayError, "channel_axis is True; wanted a frame axis"),
        ({"targets": LABELS[:2]}, ArrayError, r"targets are uint8 of shape \(2, 20, 26\); wanted \(3, 20, 26\)"),
        ({"targets": FRAMES > 0}, ArrayError, "targets are bool; wanted integers"),
        ({"tile_shape": (21, 5)}, SettingError, r"tile_shape is \(21, 5\).*for \(20, 26\) px"),
        ({"tile_shape": (5, 5), "step": (0, 5)}, SettingError, "steps, of at least 1"),
        ({"tile_shape": (5, 5), "step": (5,)}, SettingError, "as many steps"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TiledExamples(**{"images": FRAMES} | options)


def test_digests_tell_what_decides_the_batches() -> None:
    labels = LABELS.copy()
    labels[0, 0, 0] ^= 1
    examples = [
        TiledExamples(FRAMES),
        TiledExamples(FRAMES + 1),
        TiledExamples(FRAMES, LABELS),
        TiledExamples(FRAMES, labels),
        TiledExamples(FRAMES, LABELS, ignore_index=0),
        TiledExamples(FRAMES, tile_shape=(8, 8)),
        TiledExamples(FRAMES, tile_shape=(8, 8), step=(4, 4)),
        TiledExamples(FRAMES, digest_of_source="a"),
        LabeledExamples(FRAMES[:, None], LABELS),
        LabeledExamples(FRAMES[:, None], LABELS, 0),
    ]
    examples += [Augmented(examples[0]), Augmented(examples[0], 1), Augmented(examples[0], flips=False)]
    examples += [Augmented(examples[0], rotations=False), Subset(examples[0], np.array([0]))]
    examples += [Subset(examples[0], np.array([1]))]
    assert len({one.digest for one in examples}) == len(examples)
    assert TiledExamples(FRAMES.copy()).digest == examples[0].digest


class Slices:
    """An array too large to be read whole: it remembers how much was asked for at once."""

    shape, dtype = (100_000, 2048, 2048), np.dtype(np.float32)

    def __init__(self) -> None:
        self.largest = 0

    def __getitem__(self, key: tuple) -> np.ndarray:
        frame, rows, columns = key
        read = np.full((rows.stop - rows.start, columns.stop - columns.start), frame, np.float32)
        self.largest = max(self.largest, read.nbytes)
        return read


def test_terabytes_are_read_tile_by_tile() -> None:
    source = Slices()
    examples = TiledExamples(source, tile_shape=(64, 64), digest_of_source="scan 7")
    assert len(examples) == 100_000 * 32 * 32
    assert "scan 7" in examples.digest
    assert examples.batch(0, np.array([len(examples) - 1])).inputs.unique().tolist() == [99_999]
    assert source.largest == 64 * 64 * 4


def square(count: int = 40) -> LabeledExamples:
    """Inputs that tell each pixel from all others, and the same as labels."""
    values = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4).repeat(count, 0)
    return LabeledExamples(values, values[:, 0].astype(np.int64), ignore_index=5)


def test_input_target_and_weight_are_turned_alike() -> None:
    batch = Augmented(square(), seed=3).batch(2, np.arange(40))
    assert torch.equal(batch.inputs[:, 0].long(), batch.target)
    assert torch.equal(batch.weight, (batch.target != 5).float())
    seen = {tuple(tile.flatten().tolist()) for tile in batch.target}
    assert len(seen) == 8, "the eight ways a square can lie"


def test_what_is_drawn_depends_on_seed_epoch_and_index_alone() -> None:
    examples = Augmented(square(), seed=3)
    one_by_one = [examples.batch(1, np.array([index])).inputs for index in (7, 3, 9)]
    assert torch.equal(torch.cat(one_by_one), examples.batch(1, np.array([7, 3, 9])).inputs)
    assert not torch.equal(examples.batch(0, np.arange(9)).inputs, examples.batch(1, np.arange(9)).inputs)
    assert not torch.equal(examples.batch(0, np.arange(9)).inputs, Augmented(square(), 4).batch(0, np.arange(9)).inputs)


def test_flips_and_rotations_can_be_had_alone() -> None:
    tile = square(1).labels[0]
    turned = {tuple(np.rot90(tile, k).ravel().tolist()) for k in range(4)}
    flipped = {tuple(t.ravel().tolist()) for t in (tile, tile[::-1], tile[:, ::-1], tile[::-1, ::-1])}
    for options, expected in (({"flips": False}, turned), ({"rotations": False}, flipped)):
        targets = Augmented(square(), **options).batch(0, np.arange(40)).target
        assert {tuple(t.flatten().tolist()) for t in targets} == expected
    wide = ArrayExamples(FRAMES[:, None])
    with pytest.raises(ArrayError, match="20 x 26 px cannot be turned by 90°"):
        all_of(Augmented(wide))
    batch = all_of(Augmented(wide, rotations=False))
    assert batch.inputs.shape == (3, 1, 20, 26)
    assert batch.target is batch.inputs, "what is its own target stays that"


def test_volumes_are_mirrored_along_z_too() -> None:
    volume = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 2, 2).repeat(99, 0)
    batch = all_of(Augmented(ArrayExamples(volume)))
    assert len({tuple(v.flatten().tolist()) for v in batch.inputs}) == 16


def test_stacked_slices_are_turned_upside_down_with_equal_chances_and_nothing_else_changes() -> None:
    slices = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2).repeat(60, 0)
    examples = LabeledExamples(slices, slices[:, 1].astype(np.int64), ignore_index=-1)
    plain, stacked = (all_of(Augmented(examples, 1, stacked=value)) for value in (False, True))
    upside_down = (stacked.inputs[:, 0] != plain.inputs[:, 0]).flatten(1).all(1)
    assert 15 < int(upside_down.sum()) < 45
    assert torch.equal(stacked.inputs[upside_down], plain.inputs[upside_down].flip(1))
    assert torch.equal(stacked.inputs[~upside_down], plain.inputs[~upside_down])
    assert torch.equal(stacked.target, plain.target)
    assert torch.equal(stacked.inputs[:, 1].long(), stacked.target), "the slice that is labelled stays in the middle"
    level = all_of(Augmented(examples, 1, flips=False, rotations=False, stacked=True))
    assert torch.equal(level.inputs, torch.from_numpy(slices))
    assert Augmented(examples, stacked=True).digest != Augmented(examples).digest


DISTURBANCES = {"contrast": 0.2, "brightness": 0.5, "arcs": 2.0}


def test_gray_values_are_disturbed_and_labels_are_not() -> None:
    plain, batch = all_of(square()), all_of(Disturbed(square(), 1, **DISTURBANCES))
    assert torch.equal(batch.target, plain.target)
    assert torch.equal(batch.weight, plain.weight)
    assert all(not torch.equal(a, b) for a, b in zip(batch.inputs, plain.inputs, strict=True))
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(all_of(Disturbed(square())).inputs, plain.inputs), "nothing is asked for, nothing is done"


@pytest.mark.parametrize("name", DISTURBANCES)
def test_each_disturbance_depends_on_seed_epoch_and_index_alone(name: str) -> None:
    examples = Disturbed(square(), seed=3, **{name: DISTURBANCES[name]})
    one_by_one = [examples.batch(1, np.array([index])).inputs for index in (7, 3, 9)]
    assert torch.equal(torch.cat(one_by_one), examples.batch(1, np.array([7, 3, 9])).inputs)
    first = examples.batch(0, np.arange(9)).inputs
    assert not torch.equal(first, examples.batch(1, np.arange(9)).inputs)
    other = Disturbed(square(), seed=4, **{name: DISTURBANCES[name]})
    assert not torch.equal(first, other.batch(0, np.arange(9)).inputs)
    assert len({examples.digest, other.digest, square().digest}) == 3


def test_contrast_is_a_factor_and_brightness_a_sum_of_the_spread_that_was_asked_for() -> None:
    ones = LabeledExamples(np.ones((4000, 1, 1, 1), np.float32), np.zeros((4000, 1, 1), np.uint8))
    factors = all_of(Disturbed(ones, contrast=0.3)).inputs.flatten().log()
    assert abs(float(factors.mean())) < 0.03
    assert float(factors.std()) == pytest.approx(0.3, rel=0.05)
    sums = all_of(Disturbed(ones, brightness=0.7)).inputs.flatten() - 1
    assert abs(float(sums.mean())) < 0.05
    assert float(sums.std()) == pytest.approx(0.7, rel=0.05)


@pytest.mark.parametrize("shape", [(40, 5, 32, 48), (40, 1, 5, 32, 48)])
def test_arcs_are_the_same_in_all_slices_thin_and_as_many_as_asked_for(shape: tuple[int, ...]) -> None:
    nothing = LabeledExamples(np.zeros(shape, np.float32), np.zeros((40, *shape[2:]), np.uint8))
    drawn = all_of(Disturbed(nothing, arcs=1.0)).inputs.reshape(40, 5, 32, 48)
    assert torch.equal(drawn, drawn[:, :1].expand_as(drawn))
    seen = drawn[:, 0].abs().amax((1, 2)) > 0
    assert 17 < int(seen.sum()) < 34, "1 - 1/e of them are 25"
    assert float((drawn[seen][:, 0].abs() > 0.1).float().mean()) < 0.5


@pytest.mark.parametrize("wrong", [{"arcs": -1.0}, {"contrast": float("nan")}, {"brightness": float("inf")}])
def test_impossible_disturbances_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="wanted numbers, at least 0"):
        Disturbed(square(), **wrong)


WARPS = {"turn": 180.0, "stretch": 0.2, "bend": 2.0}


def halves(count: int = 12, shape: tuple[int, ...] = (1, 48, 48)) -> LabeledExamples:
    """Two slices of noise upon an edge: 0 on the left, 10 on the right, labelled as such; the outermost px are not."""
    labels = np.zeros((count, *shape[1:]), np.uint8)
    labels[..., 24:] = 1
    noise = np.random.default_rng(0).normal(0, 0.1, (count, *shape))
    images = (10.0 * labels[:, None] + noise).astype(np.float32)
    labels[..., :1] = 255
    return LabeledExamples(images, labels)


@pytest.mark.parametrize("shape", [(1, 48, 48), (3, 48, 48), (1, 4, 48, 48)])
def test_images_and_labels_are_warped_alike(shape: tuple[int, ...]) -> None:
    plain, batch = all_of(halves(shape=shape)), all_of(Warped(halves(shape=shape), 1, **WARPS))
    assert batch.inputs.shape == plain.inputs.shape
    assert (batch.target.dtype, batch.weight.dtype) == (plain.target.dtype, plain.weight.dtype)
    assert all(not torch.equal(a, b) for a, b in zip(batch.inputs, plain.inputs, strict=True))
    counted = batch.weight > 0
    assert set(batch.target[counted].tolist()) == {0, 1}, "no pixel without a label, nor one made of two classes"
    for channel in range(shape[0]):
        right = (batch.inputs[:, channel] > 5) == batch.target.bool()
        assert float(right[counted].float().mean()) > 0.985, "but for the pixels upon the edge"
    assert 0.5 < float(counted.float().mean()) < 0.95, "what comes from beyond the tile does not count"
    unwarped = all_of(Warped(halves(shape=shape)))
    torch.testing.assert_close(unwarped.inputs, plain.inputs, atol=1e-4, rtol=0)
    assert torch.equal(unwarped.target, plain.target)
    assert torch.equal(unwarped.weight, plain.weight)


@pytest.mark.parametrize("name", WARPS)
def test_each_warp_depends_on_seed_epoch_and_index_alone(name: str) -> None:
    examples = Warped(halves(), seed=3, **{name: WARPS[name]})
    one_by_one = [examples.batch(1, np.array([index])).inputs for index in (7, 3, 9)]
    assert torch.equal(torch.cat(one_by_one), examples.batch(1, np.array([7, 3, 9])).inputs)
    first = examples.batch(0, np.arange(9)).inputs
    assert not torch.equal(first, examples.batch(1, np.arange(9)).inputs)
    other = Warped(halves(), seed=4, **{name: WARPS[name]})
    assert not torch.equal(first, other.batch(0, np.arange(9)).inputs)
    assert len({examples.digest, other.digest, halves().digest}) == 3


def test_warps_are_as_large_as_asked_for() -> None:
    """Images that hold their own coordinates tell where each pixel came from; the middle does not see the border."""
    coordinates = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0), indexing="ij")).astype(np.float32)
    many = LabeledExamples(np.repeat(coordinates[None], 300, axis=0), np.zeros((300, 64, 64), np.uint8))

    def sources(**asked: float) -> np.ndarray:
        return all_of(Warped(many, **asked)).inputs.numpy().astype(float)[:, :, 24:40, 24:40]

    slopes = np.stack(np.gradient(sources(turn=30.0), axis=(2, 3))).mean(axis=(3, 4))  # along, example, of
    angles = np.degrees(np.arctan2(slopes[0, :, 1], slopes[1, :, 1]))
    assert 29 < abs(angles).max() <= 30.01
    assert abs(angles).mean() == pytest.approx(15, abs=1.5), "evenly, either way"
    np.testing.assert_allclose(slopes[0, :, 1], -slopes[1, :, 0], atol=1e-3)
    slopes = np.stack(np.gradient(sources(stretch=0.1), axis=(2, 3))).mean(axis=(3, 4))
    assert np.log(slopes[[0, 1], :, [0, 1]]).std(axis=1) == pytest.approx(0.1, rel=0.15)
    moved = sources(bend=1.5) - coordinates[:, 24:40, 24:40]
    assert moved.std(axis=(0, 2, 3)) == pytest.approx(1.5, rel=0.15)
    assert abs(np.gradient(moved, axis=3)).max() < 1, "bent, and not torn"


@pytest.mark.parametrize("wrong", [{"turn": -1.0}, {"stretch": float("nan")}, {"bend": float("inf")}])
def test_impossible_warps_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="wanted numbers, at least 0"):
        Warped(halves(), **wrong)


def test_a_subset_is_what_it_names() -> None:
    examples = TiledExamples(FRAMES)
    part = Subset(examples, np.array([2, 0]))
    assert len(part) == 2
    assert same(all_of(part), examples.batch(0, np.array([2, 0])))
    for indices in ([3], [-1], [0, 0], [], [0.5]):
        with pytest.raises(ArrayError, match="wanted different whole numbers from 0 to 2, at least one"):
            Subset(examples, np.array(indices))


@given(count=st.integers(0, 20), depth=st.integers(0, 5))
def test_reading_ahead_keeps_the_order(count: int, depth: int) -> None:
    assert list(read_ahead(lambda item: item * item, range(count), depth)) == [item * item for item in range(count)]


def test_reading_ahead_overlaps_and_holds_no_more_than_it_says() -> None:
    begun: list[int] = []
    reading = read_ahead(lambda item: (begun.append(item), threading.current_thread().name)[1], range(9), depth=2)
    assert next(reading).startswith("read-ahead")
    deadline = time.monotonic() + 5
    while len(begun) < 3 and time.monotonic() < deadline:
        time.sleep(1e-3)
    time.sleep(0.02)
    assert begun == [0, 1, 2], "two wait while the first is worked on"
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_an_error_in_reading_comes_at_its_turn() -> None:
    def read(item: int) -> int:
        if item == 2:
            raise OSError("frame 2 is gone")
        return item

    reading: Iterator[int] = read_ahead(read, range(5), depth=3)
    assert [next(reading), next(reading)] == [0, 1]
    with pytest.raises(OSError, match="frame 2 is gone"):
        next(reading)


def test_a_training_from_zarr_is_the_training_from_memory(tmp_path: Path) -> None:
    stored_frames = stored("zarr", tmp_path, FRAMES)
    weights = []
    for images, digest, prefetch in ((FRAMES, None, 0), (stored_frames, "on disk", 2)):
        examples = Augmented(TiledExamples(images, LABELS, (10, 10), (8, 8), digest_of_source=digest), seed=1)
        torch.manual_seed(0)
        result = fit(nn.Conv2d(1, 2, 3, padding=1), examples, CrossEntropy(), TrainSettings(2, 5), prefetch=prefetch)
        weights.append(result.last_weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
