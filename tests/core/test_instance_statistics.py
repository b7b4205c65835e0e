"""Statistics of instances: pairs counted one by one, samples compared as SciPy does, directions known beforehand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.instances import autocorrelation, directions_of, ks_distance, orientations
from dlsia_core.plots.instances import plot_directions, plot_lengths, plot_on_sphere, sphere_grid


def brute_force(volume: NDArray[np.bool_], step: tuple[int, ...]) -> float:
    inside = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, volume.shape, strict=True))
    moved = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, volume.shape, strict=True))
    share, fraction = (volume[inside] & volume[moved]).mean(), volume.mean()
    return float((share - fraction**2) / (fraction - fraction**2))


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(4, 7), st.integers(4, 9), st.integers(4, 9)),
    slab=st.integers(1, 8),
    radius=st.integers(1, 3),
)
@settings(max_examples=25)
def test_every_pair_is_counted_once(seed: int, shape: tuple[int, ...], slab: int, radius: int) -> None:
    volume = np.random.default_rng(seed).random(shape) < 0.4
    volume[0, 0, 0], volume[-1, -1, -1] = True, False
    found = autocorrelation(lambda a, b: volume[a:b], len(volume), radius, slab)
    assert found.fraction == volume.mean()
    steps = np.arange(-radius, radius + 1)
    expected = [[[brute_force(volume, (z, y, x)) for x in steps] for y in steps] for z in steps]
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    whole = autocorrelation(lambda a, b: volume[a:b], len(volume), radius, len(volume))
    np.testing.assert_array_equal(found.values, whole.values)


def test_tiles_in_a_slice_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).random((5, 40, 50)) < 0.3
    whole = autocorrelation(lambda a, b: volume[a:b], 5, 4)
    monkeypatch.setitem(autocorrelation.__globals__, "_TILE", 16)
    np.testing.assert_array_equal(autocorrelation(lambda a, b: volume[a:b], 5, 4).values, whole.values)


def test_rods_are_alike_along_their_direction_and_at_no_other() -> None:
    volume = np.zeros((30, 60, 60), bool)
    places = np.random.default_rng(1).integers(0, 30, (25, 2)) * (1, 2)
    for z, y in places:
        volume[z, y : y + 2, :] = True  # along x
    found = autocorrelation(lambda a, b: volume[a:b], 30, 10)
    along, across = found.on_sphere(np.array([0.0, np.pi / 2]), np.zeros(2))
    assert along == pytest.approx(1)
    assert abs(across) < 0.15
    longitude, latitude = sphere_grid()
    sphere = found.on_sphere(*np.meshgrid(longitude, latitude))
    row, column = np.unravel_index(sphere.argmax(), sphere.shape)
    assert abs(directions_of(longitude[column], latitude[row])[2]) > 0.99
    np.testing.assert_allclose(sphere, np.roll(sphere[::-1], 60, axis=1), atol=1e-12)  # n and -n


@given(
    one=st.lists(st.integers(0, 9), min_size=1, max_size=12), other=st.lists(st.integers(0, 9), min_size=1, max_size=12)
)
def test_the_distance_of_two_samples_is_the_largest_gap(one: list[int], other: list[int]) -> None:
    first, second = np.array(one, float), np.array(other, float)
    expected = max(abs(np.mean(first <= value) - np.mean(second <= value)) for value in (*one, *other))
    assert ks_distance(first, second) == pytest.approx(expected, abs=1e-12)
    assert ks_distance(second, first) == ks_distance(first, second)


def test_the_distance_of_two_samples_is_scipys() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(0, 1, 83), rng.normal(0.4, 1.2, 61)
    assert ks_distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)


def test_orientations_by_hand() -> None:
    tilted = np.array([0.6, 0.8, 0.0])
    found = orientations(np.array([tilted, -tilted, tilted, [0, 0, 0]]))
    assert found.mean == pytest.approx((0.6, 0.8, 0))
    assert found.order == pytest.approx(1)
    even = orientations(np.eye(3))
    assert even.order == pytest.approx(0)
    assert even.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_figures_are_drawn() -> None:
    longitude, latitude = sphere_grid()
    values = np.cos(latitude)[:, None] * np.cos(longitude)[None, :]
    figures = [
        plot_on_sphere(longitude, latitude, values, "correlation"),
        plot_directions(np.eye(3)),
        plot_lengths(np.arange(50.0), np.arange(40.0)),
    ]
    for figure in figures:
        figure.canvas.draw()
    heights: Any = figures[2].axes[0].patches
    assert len(heights) > 0


def test_what_has_no_statistics_is_refused() -> None:
    volume = np.zeros((5, 5, 5), bool)
    with pytest.raises(ArrayError, match=r"0 % of the volume are foreground"):
        autocorrelation(lambda a, b: volume[a:b], 5, 2)
    with pytest.raises(ArrayError, match="give a smaller radius"):
        autocorrelation(lambda a, b: volume[a:b], 5, 5)
    with pytest.raises(SettingError, match="radius is 0"):
        autocorrelation(lambda a, b: volume[a:b], 5, 0)
    with pytest.raises(ArrayError, match="second sample"):
        ks_distance(np.ones(3), np.array([]))
    with pytest.raises(ArrayError, match="none of 2 instances has a direction"):
        orientations(np.zeros((2, 3)))
    with pytest.raises(ArrayError, match="none of 2 instances has a direction"):
        plot_directions(np.zeros((2, 3)))
    with pytest.raises(ArrayError, match="nothing to draw"):
        plot_lengths(np.array([]))
