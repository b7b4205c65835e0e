"""Neighbors in latent spaces: hand-computed cases, what chance keeps, and an independent computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.neighbor_study import (
    CorrelationSums,
    correlation_by_rank,
    kept_share,
    mean_difference,
    nearest_neighbors,
    usable_neighbors,
)
from dlsia_core.plots.neighbors import plot_neighbors


def correlations_of(frames: np.ndarray, block: int = 7) -> np.ndarray:
    sums = CorrelationSums(len(frames))
    flat = frames.reshape(len(frames), -1)
    for start in range(0, flat.shape[1], block):
        sums.add(flat[:, start : start + block])
    return sums.correlations()


def test_identical_latent_spaces_keep_all_neighbors():
    latent = np.random.default_rng(0).normal(size=(60, 5))
    moved = 3.0 * latent[:, ::-1] + 1.0  # neighbors do not change with order of the numbers, scale and origin
    near = nearest_neighbors(latent, 10)
    assert (kept_share(nearest_neighbors(moved, 10), near) == 1).all()


def test_shuffled_latent_spaces_keep_what_chance_keeps():
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(400, 3))
    kept = kept_share(nearest_neighbors(rng.permutation(latent), 50), nearest_neighbors(latent, 50))
    assert kept.mean() == pytest.approx(50 / 399, abs=0.015)


@given(st.integers(3, 12), st.integers(0, 10_000))
def test_neighbors_are_those_of_a_sorted_list_of_distances(n_frames, seed):
    latent = np.random.default_rng(seed).integers(0, 3, size=(n_frames, 2)).astype(float)  # many equal distances
    near = nearest_neighbors(latent, n_frames - 1)
    for number in range(n_frames):
        others = [n for n in range(n_frames) if n != number]
        distance = {n: float(np.sum((latent[n] - latent[number]) ** 2)) for n in others}
        assert near[number].tolist() == sorted(others, key=lambda n: (distance[n], n))


def test_neighbors_far_from_the_origin_are_found():
    assert nearest_neighbors(np.array([[1e8], [1e8 + 1], [1e8 + 3]]), 1).ravel().tolist() == [1, 0, 1]


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_correlations_are_those_of_numpy_on_common_pixels_whatever_the_blocks(seed, block):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(4, 5, 6)) + 3.0
    frames[rng.random(frames.shape) < 0.2] = np.nan
    found = correlations_of(frames, block)
    for i in range(4):
        for j in range(4):
            both = np.isfinite(frames[i]) & np.isfinite(frames[j])
            assert found[i, j] == pytest.approx(np.corrcoef(frames[i][both], frames[j][both])[0, 1], abs=1e-9)


def test_constant_frames_and_frames_without_common_pixels_have_no_correlation():
    frames = np.array([[1.0, 2.0, 4.0, np.nan], [0.3, 0.3, 0.3, 0.3], [np.nan, np.nan, np.nan, 1.0]])
    found = correlations_of(frames)
    assert found[0, 0] == pytest.approx(1.0)
    assert np.isnan(found[0, 1])
    assert np.isnan(found[0, 2])


def test_the_curve_is_the_mean_over_frames_by_rank():
    correlations = np.array([[1.0, 0.8, 0.2], [0.8, 1.0, 0.6], [0.2, 0.6, 1.0]])
    near = nearest_neighbors(np.array([[0.0], [1.0], [3.0]]), 2)  # 1, 2 / 0, 2 / 1, 0
    expected = [(0.8 + 0.8 + 0.6) / 3, (0.2 + 0.6 + 0.2) / 3]
    assert correlation_by_rank(correlations, near) == pytest.approx(expected)
    correlations[0, 1] = np.nan
    assert correlation_by_rank(correlations, near)[0] == pytest.approx((0.8 + 0.6) / 2)
    assert np.isnan(correlation_by_rank(np.full((3, 3), np.nan), near)).all()


def test_the_interval_is_of_the_difference_of_the_same_frames():
    rng = np.random.default_rng(0)
    hard = rng.random(200)  # frames differ a lot, and the difference hardly
    difference = mean_difference(hard + 0.1 + 0.01 * rng.normal(size=200), hard, seed=0, confidence=0.95, resamples=400)
    assert difference.low < 0.1 < difference.high
    assert difference.high - difference.low < 0.01


def test_fewer_frames_than_wanted_neighbors():
    assert [usable_neighbors(100, n) for n in (102, 101, 60, 5, 3)] == [100, 25, 14, 1, 1]
    with pytest.raises(ArrayError, match="there are 2 frames"):
        usable_neighbors(100, 2)
    with pytest.raises(SettingError, match="wanted 1 to 2"):
        nearest_neighbors(np.zeros((3, 1)), 3)
    with pytest.raises(ArrayError, match="finite"):
        nearest_neighbors(np.full((3, 1), np.nan), 1)


def test_curves_and_violins_show_each_latent_space_once():
    curve = np.linspace(0.9, 0.5, 5)
    kept = {"masked": np.full(4, 0.5), "inpainted": np.array([0.5, 0.9, 0.8, 0.7])}
    figure = plot_neighbors({"truth": curve, "masked": curve - 0.1, "inpainted": curve}, kept, chance=0.1)
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == curve.tolist()
    assert [label.get_text() for label in right.get_xticklabels()] == ["masked", "inpainted"]
    assert len([c for c in right.collections if type(c).__name__ != "LineCollection"]) == 1  # of one value no violin
    with pytest.raises(ArrayError, match="nothing to draw"):
        plot_neighbors({}, {})
