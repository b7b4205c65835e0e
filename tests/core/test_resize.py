from pathlib import Path

import fabio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import block_reduce

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.resize import AreaResizer, resize_bicubic, resized_coordinates

sizes = st.integers(1, 13)
shapes = st.tuples(sizes, sizes)


def random_frame(seed, shape, dtype=np.int32):
    rng = np.random.default_rng(seed)
    return rng.integers(-5, 1000, shape).astype(dtype), rng.random(shape) < 0.7


def slow_area_mean(counts, valid, resized_shape, min_coverage):
    """One resized pixel at a time, one detector pixel at a time, with the overlap of two intervals."""
    height, width = (size / resized for size, resized in zip(counts.shape, resized_shape, strict=True))
    values = np.full(resized_shape, np.nan)
    for row, column in np.ndindex(*resized_shape):
        total = area = 0.0
        for y, x in zip(*np.nonzero(valid), strict=True):
            overlap_y = min((row + 1) * height, y + 1) - max(row * height, y)
            overlap_x = min((column + 1) * width, x + 1) - max(column * width, x)
            overlap = max(overlap_y, 0.0) * max(overlap_x, 0.0)
            total += overlap * counts[y, x]
            area += overlap
        if area / (height * width) >= min_coverage:
            values[row, column] = total / area
    return values


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes)
def test_agrees_with_a_slow_loop_over_overlaps(seed, frame_shape, resized_shape):
    counts, valid = random_frame(seed, frame_shape)
    min_coverage = 0.4567  # no ratio of small whole numbers: the loop's rounding must not decide
    values, _ = AreaResizer(frame_shape, resized_shape, min_coverage).resize(counts, valid)
    np.testing.assert_allclose(values, slow_area_mean(counts, valid, resized_shape, min_coverage), rtol=1e-6, atol=1e-4)


@given(factor_y=st.integers(1, 4), factor_x=st.integers(1, 4), shape=shapes)
def test_integer_factors_agree_with_block_reduce(factor_y, factor_x, shape):
    counts, _ = random_frame(3, (shape[0] * factor_y, shape[1] * factor_x))
    values, coverage = AreaResizer(counts.shape, shape).resize(counts, np.ones(counts.shape, bool))
    np.testing.assert_array_equal(values, block_reduce(counts, (factor_y, factor_x), np.mean).astype(np.float32))
    assert np.all(coverage == 1)


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes, constant=st.integers(-(2**31), 2**31 - 1))
def test_a_constant_stays_that_constant_beside_gaps(seed, frame_shape, resized_shape, constant):
    _, valid = random_frame(seed, frame_shape)
    counts = np.where(valid, constant, -1).astype(np.int32)
    values, coverage = AreaResizer(frame_shape, resized_shape).resize(counts, valid)
    assert np.all(values[coverage >= 0.5] == np.float32(constant))
    assert np.all(np.isnan(values[coverage < 0.5]))


def test_a_mean_half_way_between_two_float32_is_rounded_once():
    """2**24 + 1 rounds to the even 2**24; a mean off by one float64 rounding would become 2**24 + 2."""
    counts = np.full((49, 53), 2**24 + 1, np.int32)
    for seed in range(20):
        _, valid = random_frame(seed, counts.shape)
        values, coverage = AreaResizer(counts.shape, (10, 11)).resize(counts, valid)
        assert np.all(values[coverage >= 0.5] == 2**24)


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes, data=st.data())
def test_unmeasured_pixels_never_matter(seed, frame_shape, resized_shape, data):
    dtype = data.draw(st.sampled_from([np.int32, np.uint16, np.float32, np.float64]))
    counts, valid = random_frame(seed, frame_shape, dtype)
    limits = [np.nan, np.inf] if np.issubdtype(dtype, np.floating) else [0, np.iinfo(dtype).max]
    resizer = AreaResizer(frame_shape, resized_shape)
    first, second = (resizer.resize(np.where(valid, counts, dtype(junk)), valid)[0] for junk in limits)
    assert first.tobytes() == second.tobytes()


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes)
def test_the_sum_of_a_whole_frame_is_conserved(seed, frame_shape, resized_shape):
    counts, _ = random_frame(seed, frame_shape)
    values, _ = AreaResizer(frame_shape, resized_shape).resize(counts, np.ones(frame_shape, bool))
    area = counts.size / values.size
    assert values.sum(dtype=np.float64) * area == pytest.approx(counts.sum(), rel=1e-5, abs=1e-2)


@given(seed=st.integers(0, 99), shape=shapes)
def test_equal_shapes_give_the_counts_themselves(seed, shape):
    counts, valid = random_frame(seed, shape)
    counts[0, 0] = 2**24
    values, coverage = AreaResizer(shape, shape).resize(counts, valid)
    np.testing.assert_array_equal(values, np.where(valid, counts, np.nan))
    np.testing.assert_array_equal(coverage, valid)


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes)
def test_known_coverage_changes_no_bit(seed, frame_shape, resized_shape):
    counts, valid = random_frame(seed, frame_shape)
    resizer = AreaResizer(frame_shape, resized_shape)
    values, coverage = resizer.resize(counts, valid)
    again, same = resizer.resize(counts, valid, resizer.coverage(valid))
    assert again.tobytes() == values.tobytes()
    assert np.array_equal(same, coverage)


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes)
def test_rows_and_columns_are_treated_alike(seed, frame_shape, resized_shape):
    counts, valid = random_frame(seed, frame_shape)
    values, _ = AreaResizer(frame_shape, resized_shape).resize(counts, valid)
    turned, _ = AreaResizer(frame_shape[::-1], resized_shape[::-1]).resize(counts.T, valid.T)
    assert np.array_equal(values, turned.T, equal_nan=True)


def test_big_endian_and_32_bit_counts_are_read_right():
    counts = np.array([[2**32 - 1, 2**32 - 3]], ">u4")
    values, _ = AreaResizer((1, 2), (1, 1)).resize(counts, np.ones((1, 2), bool))
    assert values == np.float32(2**32 - 2)


def test_coverage_threshold_is_inclusive():
    valid = np.array([[True, False, True, False, False, False]])
    values, coverage = AreaResizer((1, 6), (1, 2), min_coverage=2 / 3).resize(np.ones((1, 6)), valid)
    np.testing.assert_array_equal(coverage, [[2 / 3, 0]])
    np.testing.assert_array_equal(values, [[1, np.nan]])


@given(frame_size=st.integers(1, 50), resized_size=st.integers(1, 50))
def test_coordinates_are_the_means_of_detector_positions(frame_size, resized_size):
    positions = np.arange(frame_size, dtype=float)[None]
    coordinates = resized_coordinates(frame_size, resized_size)
    np.testing.assert_allclose(np.diff(coordinates), frame_size / resized_size)
    assert coordinates.mean() == pytest.approx(positions.mean(), abs=1e-9)
    if frame_size % resized_size == 0:
        means, _ = AreaResizer((1, frame_size), (1, resized_size)).resize(positions, np.ones((1, frame_size), bool))
        np.testing.assert_allclose(coordinates, means[0], rtol=1e-6)


def test_bicubic_of_a_constant_is_that_constant():
    values = resize_bicubic(np.full((30, 41), 7), np.ones((30, 41), bool), (12, 19))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, 7, rtol=1e-6)


def test_bicubic_smears_a_gap_where_the_area_mean_does_not():
    counts = np.full((40, 40), 100, np.int32)
    counts[:, 18:22] = -1
    values = resize_bicubic(counts, counts >= 0, (20, 20))
    area, coverage = AreaResizer((40, 40), (20, 20)).resize(counts, counts >= 0)
    again = resize_bicubic(counts, counts >= 0, (20, 20), coverage=coverage)
    assert np.array_equal(values, again, equal_nan=True)
    assert np.array_equal(np.isnan(values), np.isnan(area))
    assert np.nanmax(np.abs(values - 100)) > 1
    assert np.nanmax(np.abs(area - 100)) == 0


def test_bicubic_ignores_what_is_recorded_in_gaps_and_keeps_equal_shapes():
    counts, valid = random_frame(5, (9, 8))
    values = resize_bicubic(np.where(valid, counts, -2), valid, (9, 8))
    np.testing.assert_array_equal(values, np.where(valid, counts, np.nan))


def test_bicubic_antialias_is_a_choice():
    counts, valid = np.random.default_rng(0).integers(0, 9, (64, 64)), np.ones((64, 64), bool)
    plain = resize_bicubic(counts, valid, (16, 16))
    smooth = resize_bicubic(counts, valid, (16, 16), antialias=True)
    assert smooth.std() < plain.std()


@pytest.mark.parametrize("shapes", [((0, 5), (2, 2)), ((5, 5), (2, -1)), ((5, 5, 5), (2, 2)), ((5, 5), (2.5, 2))])
def test_impossible_shapes_are_refused(shapes):
    with pytest.raises(SettingError, match="two whole numbers of pixels"):
        AreaResizer(*shapes)


@pytest.mark.parametrize("min_coverage", [0, -0.1, 1.01, float("nan")])
def test_impossible_coverage_is_refused(min_coverage):
    with pytest.raises(SettingError, match="above 0 and at most 1"):
        AreaResizer((4, 4), (2, 2), min_coverage)


def test_wrong_arrays_are_refused():
    resizer, counts, valid = AreaResizer((4, 4), (2, 2)), np.ones((4, 4)), np.ones((4, 4), bool)
    with pytest.raises(ArrayError, match=r"counts has shape \(4, 3\).*prepared for \(y, x\) = \(4, 4\)"):
        resizer.resize(counts[:, :3], valid)
    with pytest.raises(ArrayError, match="valid must be bool"):
        resizer.resize(counts, valid.astype(np.uint8))
    with pytest.raises(ArrayError, match="counts must be integers or floats"):
        resizer.resize(counts.astype(complex), valid)
    with pytest.raises(ArrayError, match="coverage must be float64"):
        resizer.resize(counts, valid, np.ones((2, 2), np.float32))
    with pytest.raises(ArrayError, match="valid has shape"):
        resize_bicubic(counts, valid[:3], (2, 2))


def test_real_frame_keeps_its_counts(real_frames: Path):
    files = sorted((real_frames / "cbf" / "p03_gisaxs").glob("*.cbf"))
    if not files:
        pytest.skip("no P03 frames")
    counts = fabio.open(files[0]).data
    valid = counts >= 0
    values, coverage = AreaResizer(counts.shape, (512, 512), min_coverage=1e-9).resize(counts, valid)
    total = np.nansum(values.astype(np.float64) * coverage) * (counts.size / values.size)
    assert total == pytest.approx(counts[valid].sum(dtype=np.int64), rel=1e-6)


@given(seed=st.integers(0, 99), frame_shape=shapes, resized_shape=shapes)
def test_variance_is_that_of_a_weighted_mean(seed, frame_shape, resized_shape):
    """The weights are what each detector pixel alone adds to the resized value."""
    _, valid = random_frame(seed, frame_shape)
    variances = np.random.default_rng(seed).integers(0, 9, frame_shape)
    resizer = AreaResizer(frame_shape, resized_shape)
    expected = np.zeros(resized_shape)
    for y, x in np.ndindex(*frame_shape):
        alone = np.zeros(frame_shape)
        alone[y, x] = 1
        expected += resizer.resize(alone, valid)[0].astype(np.float64) ** 2 * variances[y, x]
    np.testing.assert_allclose(resizer.variance(variances, valid), expected, rtol=1e-5)


def test_variance_of_drawn_frames():
    rng, valid = np.random.default_rng(0), np.ones((16, 11), bool)
    valid[7:10] = False
    resizer, expected = AreaResizer((16, 11), (5, 4)), np.linspace(1, 40, 176).reshape(16, 11)
    drawn = np.stack([resizer.resize(rng.poisson(expected), valid)[0] for _ in range(4000)])
    np.testing.assert_allclose(drawn.var(axis=0), resizer.variance(expected, valid), rtol=0.15)
