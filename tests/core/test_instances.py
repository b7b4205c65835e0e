"""Instances are the same for any slab, touching fibres are told apart, and the table holds what was counted by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.instances import (
    SplitSettings,
    find_components,
    instance_table,
    label_slabs,
    plan_instances,
    split_fibres,
)


def reader(volume: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    return lambda start, stop: volume[start:stop]


def labelled(volume: NDArray[Any], slab: int, **options: Any) -> NDArray[np.uint32]:
    return np.concatenate([labels for _, labels in label_slabs(reader(volume), len(volume), slab, **options)])


def in_order(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The same labels, numbered by their first voxel: what every numbering must come down to."""
    values, first = np.unique(labels, return_index=True)
    values, first = values[values > 0], first[values > 0]
    lookup = np.zeros(int(labels.max()) + 1, np.int64)
    lookup[values[np.argsort(first)]] = np.arange(1, len(values) + 1)
    return lookup[labels]


def rod(
    shape: tuple[int, int, int], one: tuple[float, ...], other: tuple[float, ...], radius: float
) -> NDArray[np.bool_]:
    """A straight fibre with flat ends between two points."""
    start, step = np.array(one, float), np.array(other, float) - np.array(one, float)
    points = np.moveaxis(np.indices(shape), 0, -1) - start
    along = points @ step / (step @ step)
    away = np.linalg.norm(points - along[..., None] * step, axis=-1)
    return (away < radius) & (along >= 0) & (along <= 1)


volumes = st.builds(
    lambda shape, share, seed: np.random.default_rng(seed).random(shape) < share,
    st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6)),
    st.floats(0, 1),
    st.integers(0, 2**31),
)


@given(volume=volumes, slab=st.integers(1, 8), connectivity=st.sampled_from([6, 18, 26]), least=st.integers(1, 4))
@settings(max_examples=150)
def test_any_slab_gives_what_scipy_finds_in_the_whole_volume(
    volume: NDArray[np.bool_], slab: int, connectivity: Any, least: int
) -> None:
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    whole, _ = ndimage.label(volume, structure)
    sizes = np.bincount(whole.ravel())
    expected = in_order(np.where(sizes[whole] >= least, whole, 0))
    found = labelled(volume, slab, connectivity=connectivity, min_voxels=least)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint32


def test_a_component_that_turns_back_is_joined_over_slabs_it_left() -> None:
    volume = np.zeros((5, 1, 5), bool)
    volume[:, 0, [0, 2, 4]] = True  # three columns that meet in the last slice only
    volume[4] = True
    assert labelled(volume, 1, connectivity=6).max() == 1
    volume[4, 0, 1] = False
    assert labelled(volume, 2, connectivity=6).max() == 2


def test_dust_is_counted_and_the_rest_numbered_without_gaps() -> None:
    volume = np.array([[[1, 0, 1, 1, 0, 1, 0, 1, 1, 1]]])
    plan = plan_instances(reader(volume), 1, min_voxels=2)
    assert plan.label(reader(volume), 0).ravel().tolist() == [0, 0, 1, 1, 0, 0, 0, 2, 2, 2]
    assert (plan.n_instances, plan.n_dust) == (2, 2)


SHAPE = (48, 44, 64)
CROSSED = [((8, 8, 4), (40, 30, 60), 3.0), ((8, 36, 12), (40, 8, 50), 3.0)]  # meet in the middle
BESIDE = [((10, 6, 4), (10, 14, 60), 3.0), ((15.5, 14, 4), (15.5, 6, 60), 3.0)]  # touch side by side, at an angle
TEE = [((30, 4, 32), (30, 40, 32), 3.0), ((4, 20, 32), (28, 20, 32), 3.0)]  # an end against a side


@pytest.mark.parametrize("fibres", [CROSSED, BESIDE, TEE], ids=["crossed", "beside", "tee"])
def test_touching_fibres_are_told_apart(fibres: list[Any]) -> None:
    parts = [rod(SHAPE, *fibre) for fibre in fibres]
    volume = parts[0] | parts[1]
    assert labelled(volume, 16).max() == 1
    labels = labelled(volume, 16, split=SplitSettings(), min_voxels=50)
    assert labels.max() == 2
    for part in parts:
        shares = [(part & (labels == number)).sum() / (part | (labels == number)).sum() for number in (1, 2)]
        assert max(shares) > 0.85


def test_a_single_bent_fibre_stays_one() -> None:
    z, y, x = np.indices((24, 70, 70))
    ring = np.hypot(np.hypot(y - 5, x - 5) - 50, z - 12) < 4  # a quarter of a circle
    assert labelled(ring, 10, split=SplitSettings(), min_voxels=50).max() == 1


@pytest.mark.parametrize("slab", [1, 5, 17])
def test_splitting_does_not_depend_on_the_slab(slab: int) -> None:
    volume = np.zeros((96, *SHAPE[1:]), bool)
    for start, fibres in ((0, CROSSED), (46, TEE)):
        for fibre in fibres:
            volume[start : start + 48] |= rod(SHAPE, *fibre)
    options: dict[str, Any] = {"split": SplitSettings(), "min_voxels": 20}
    whole = labelled(volume, 96, **options)
    assert whole.max() == 4
    np.testing.assert_array_equal(whole, in_order(whole))
    np.testing.assert_array_equal(labelled(volume, slab, **options), whole)


@pytest.mark.parametrize("seed", range(6))
def test_any_shape_can_be_split_and_numbered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(17, 22, 26)), 0.6 + 0.3 * seed)
    volume = noise > np.quantile(noise, 0.8)
    options: dict[str, Any] = {"split": SplitSettings(), "min_voxels": 3}
    labels = labelled(volume, 5, **options)
    np.testing.assert_array_equal(labels, labelled(volume, 17, **options))
    np.testing.assert_array_equal(labels, in_order(labels))
    assert np.bincount(labels.ravel())[1:].min() >= 3


def test_what_is_too_large_to_split_stays_whole_and_is_named() -> None:
    volume = rod(SHAPE, *CROSSED[0]) | rod(SHAPE, *CROSSED[1])
    for small in (SplitSettings(max_voxels=1000), SplitSettings(max_box=40_000)):
        plan = plan_instances(reader(volume), len(volume), split=small)
        assert plan.n_instances == 1
        assert plan.unsplit == (1,)


def test_slabs_may_be_asked_for_in_any_order() -> None:
    volume = rod(SHAPE, *CROSSED[0]) | rod(SHAPE, *CROSSED[1])
    plan = plan_instances(reader(volume), len(volume), 10, split=SplitSettings())
    backwards = [plan.label(reader(volume), index) for index in reversed(range(plan.n_slabs))][::-1]
    np.testing.assert_array_equal(np.concatenate(backwards), labelled(volume, 48, split=SplitSettings()))


def test_no_voxel_of_a_split_component_is_lost() -> None:
    volume = np.zeros(SHAPE, bool)
    for fibre in (*CROSSED, *TEE):
        volume |= rod(SHAPE, *fibre)
    np.testing.assert_array_equal(labelled(volume, 9, split=SplitSettings(), min_voxels=40) > 0, volume)
    assert split_fibres(np.argwhere(rod(SHAPE, *TEE[0]))) is None


@given(volume=volumes, slab=st.integers(1, 8), size=st.sampled_from([None, 2.0, (3.0, 1.0, 0.5)]))
def test_the_table_is_that_of_the_whole_volume_to_the_bit(volume: NDArray[np.bool_], slab: int, size: Any) -> None:
    labels = labelled(volume, len(volume))
    count = int(labels.max())
    whole = instance_table(reader(labels), len(labels), count, len(labels), size)
    parts = instance_table(reader(labels), len(labels), count, slab, size)
    for name, values in vars(whole).items():
        np.testing.assert_array_equal(getattr(parts, name), values, err_msg=name)


def test_the_table_agrees_with_regionprops() -> None:
    volume = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(30, 40, 50)), 2) > 0.06
    labels = labelled(volume, 7, min_voxels=30)
    table = instance_table(reader(labels), len(labels), int(labels.max()), 7)
    properties = regionprops(labels)
    assert len(properties) == len(table) > 10
    for row, one in enumerate(properties):
        assert one.label == table.ids[row]
        assert one.num_pixels == table.voxels[row]
        assert one.bbox == (*table.lowest[row], *(table.highest[row] + 1))
        np.testing.assert_allclose(one.centroid, table.centroid[row])
        values, vectors = np.linalg.eigh(np.cov(one.coords.T))
        if values[2] > 1.05 * values[1]:
            assert abs(vectors[:, 2] @ table.direction[row]) == pytest.approx(1, abs=1e-6)
        assert table.extent[row] == pytest.approx(np.ptp(one.coords @ table.direction[row]) + 1)


def test_a_bar_by_hand() -> None:
    labels = np.zeros((4, 9, 20), np.uint8)
    labels[1:3, 2:4, 5:15] = 1  # 2 x 2 x 10
    labels[0, 8, 0] = 2
    table = instance_table(reader(labels), 4, 2, slab=1, voxel_size=(3.0, 1.0, 0.5))
    assert table.voxels.tolist() == [40, 1]
    assert table.lowest.tolist() == [[1, 2, 5], [0, 8, 0]]
    assert table.highest.tolist() == [[2, 3, 14], [0, 8, 0]]
    assert table.centroid.tolist() == [[1.5, 2.5, 9.5], [0, 8, 0]]
    assert table.direction.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert table.length.tolist() == table.extent.tolist() == [10, 1]
    assert table.volume_physical is not None
    assert table.length_physical is not None
    assert table.direction_physical is not None
    assert table.volume_physical.tolist() == [60, 1.5]
    # In space it is 6 x 2 x 5: still longest by its spread along x, 5^2 - 0.5^2 against 6^2 - 3^2 = 27 along z.
    assert table.direction_physical[0].tolist() == [1, 0, 0]
    assert table.length_physical[0] == 6


@pytest.mark.parametrize("end", [(30, 30, 60), (6, 40, 8), (44, 8, 20), (24, 22, 60)])
def test_the_length_of_a_tilted_rod_is_that_between_its_ends(end: tuple[float, ...]) -> None:
    labels = rod(SHAPE, (5, 5, 5), end, 3.5).astype(np.uint8)
    table = instance_table(reader(labels), len(labels), 1)
    step = np.array(end) - 5
    # The ends stay within the volume, but not always the corners of the mantle; those count half.
    assert table.length[0] == pytest.approx(np.linalg.norm(step), abs=0.75)
    assert abs(table.direction[0] @ step) / np.linalg.norm(step) > 0.999


def test_a_sphere_has_the_length_that_the_docstring_says() -> None:
    points = np.indices((41, 41, 41)) - 20
    labels = ((points**2).sum(axis=0) < 15.5**2).astype(np.uint8)
    table = instance_table(reader(labels), 41, 1)
    assert table.length[0] / 31 == pytest.approx(0.7, abs=0.05)
    assert table.extent[0] == pytest.approx(31, abs=1.5)


def test_nothing_found_is_an_empty_table() -> None:
    volume = np.zeros((3, 4, 5), bool)
    plan = plan_instances(reader(volume), 3, slab=2, split=SplitSettings())
    assert plan.n_instances == 0
    assert not plan.label(reader(volume), 1).any()
    assert len(instance_table(reader(volume), 3, 0)) == 0


def test_what_cannot_be_labelled_is_refused() -> None:
    volume = np.ones((4, 3, 3), bool)
    with pytest.raises(SettingError, match="connectivity is 8"):
        find_components(reader(volume), 4, connectivity=8)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="slab 0"):
        find_components(reader(volume), 4, slab=0)
    with pytest.raises(SettingError, match="min_voxels is 0"):
        plan_instances(reader(volume), 4, min_voxels=0)
    with pytest.raises(ArrayError, match=r"slices 3 to 5 have the shape \(1, 3, 3\)"):
        find_components(reader(volume), 6, slab=3)
    with pytest.raises(ArrayError, match="a slab must be"):
        find_components(lambda *_: volume[0], 4)
    with pytest.raises(SettingError, match="max_angle_deg is 90"):
        SplitSettings(max_angle_deg=90)
    with pytest.raises(ArrayError, match="label 3 occurs from slice 0 on, but there are 2"):
        instance_table(reader(volume * 3), 4, 2)
    with pytest.raises(ArrayError, match="1 of 2 instances have no voxel, the first is 1"):
        instance_table(reader(volume * 2), 4, 2)
    with pytest.raises(SettingError, match="voxel_size is -1"):
        instance_table(reader(volume), 4, 1, voxel_size=-1.0)
