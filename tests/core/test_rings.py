"""Rings are taken out, objects stay, and the axis is found where it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.rings import RingFilter, find_axis

SHAPE = (150, 130)


def distance_from(center: tuple[float, float], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.hypot(np.arange(shape[0])[:, None] - center[0], np.arange(shape[1])[None, :] - center[1])


def rings(center: tuple[float, float], radii=(20.0, 33.0, 48.0), width: float = 1.2) -> np.ndarray:
    """Of alternating signs, and Gaussian in profile."""
    distance = distance_from(center)
    return sum((-1) ** k * np.exp(-(((distance - radius) / width) ** 2) / 2) for k, radius in enumerate(radii))


def scene(seed: int, noise: float = 0.3) -> np.ndarray:
    """Blobs on a twentieth of the slice, darker in the middle, with noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    blobs = smooth > np.quantile(smooth, 0.95)
    return 3.0 * blobs + 0.01 * distance_from((75, 65)) + noise * rng.normal(size=SHAPE)


centers = st.tuples(st.floats(69, 81), st.floats(59, 71))


@settings(deadline=None, max_examples=20)
@given(center=centers, seed=st.integers(0, 99))
def test_rings_are_gone_and_objects_are_not(center, seed):
    clean, artifact = scene(seed), rings(center)
    rings_of = RingFilter(center)
    left = rings_of.without_rings(clean + artifact) - clean
    assert (left**2).sum() < 0.1 * (artifact**2).sum()
    taken = rings_of.without_rings(clean) - clean
    assert (taken**2).mean() < 0.02 * clean.var()


@settings(deadline=None, max_examples=20)
@given(center=centers, factor=st.floats(0.1, 10), offset=st.floats(-100, 100))
def test_a_filtered_slice_follows_its_gray_values_and_its_axes(center, factor, offset):
    image = scene(0) + rings(center)
    filtered = RingFilter(center).without_rings(image)
    other = RingFilter(center).without_rings(factor * image + offset)
    np.testing.assert_allclose(other, factor * filtered + offset, rtol=0, atol=1e-4 * (abs(offset) + 10 * factor))
    turned = RingFilter(center[::-1]).without_rings(image.T)
    assert np.sqrt(np.mean((turned - filtered.T) ** 2)) < 0.02


def test_what_is_no_ring_stays():
    axis = (75.0, 65.0)
    distance = distance_from(axis)
    cases = {
        "brightness that changes slowly from the axis outwards": 0.02 * distance**2,
        "a straight bar through many radii": np.where(abs(np.arange(SHAPE[1])[None, :] - 80) < 4, 1.0, 0.0)
        + np.zeros(SHAPE),
        "a third of a circle": np.where(
            (abs(distance - 40) < 4) & (np.arange(SHAPE[0])[:, None] > 75 + 0.5 * distance), 1.0, 0.0
        ),
        "an object upon the axis": np.where(distance < 7, 1.0, 0.0),
    }
    for name, image in cases.items():
        changed = RingFilter(axis).without_rings(image) - image
        assert abs(changed).mean() < 0.01 * np.ptp(image), name


def test_a_ring_that_is_hardly_in_the_slice_is_left_alone():
    corner = (0.0, 0.0)
    image = np.where(abs(distance_from(corner) - 180) < 2, 1.0, 0.0)
    np.testing.assert_array_equal(RingFilter(corner).without_rings(image), image.astype(np.float32))
    half = np.where(abs(distance_from((0.0, 65.0)) - 40) < 2, 1.0, 0.0)
    assert RingFilter((0.0, 65.0)).without_rings(half).sum() < 0.3 * half.sum()


@settings(deadline=None, max_examples=20)
@given(center=centers, seed=st.integers(0, 99))
def test_the_axis_is_found_to_half_a_pixel(center, seed):
    artifact = rings(center)
    found = find_axis([scene(seed + k) + artifact for k in range(8)])
    assert np.abs(np.subtract(found, center)).max() <= 0.5


def test_the_axis_is_found_in_whole_numbers_of_any_brightness():
    shown = [(1000 + 50 * (scene(k) + rings((72.5, 66.0)))).astype(np.uint16) for k in range(8)]
    assert find_axis(shown) == find_axis([values / 7 for values in shown]) == (72.5, 66.0)


@pytest.mark.parametrize("side", [64, 200])
def test_no_axis_is_made_up(side):
    rng = np.random.default_rng(side)
    for slices in ([rng.normal(size=(side, side + 9)) for _ in range(4)], [np.ones((side, side))]):
        with pytest.raises(ArrayError, match="no ring artifacts stand out about an axis within 10% of the middle"):
            find_axis(slices)
    with pytest.raises(ArrayError, match="no slice"):
        find_axis([])


def test_numbers_that_cannot_be_used_are_refused():
    for width in (1, 30):
        with pytest.raises(SettingError, match=f"width is {width} px"):
            RingFilter((5.0, 5.0), width)
    with pytest.raises(SettingError, match="center is"):
        RingFilter((np.nan, 5.0))
    with pytest.raises(SettingError, match="outside of slices of 9 x 7 px"):
        RingFilter((5.0, 7.0)).without_rings(np.zeros((9, 7)))
    with pytest.raises(ArrayError, match=r"wanted \(y, x\)"):
        RingFilter((5.0, 5.0)).without_rings(np.zeros((2, 9, 9)))
