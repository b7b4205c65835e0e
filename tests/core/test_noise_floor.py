import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import poisson

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.exposures import align
from dlsia_core.intensity import LinearScale, LogScale
from dlsia_core.noise_floor import (
    local_expectation,
    monte_carlo_floor,
    poisson_floor,
    poisson_floor_map,
    two_exposure_floor,
)
from dlsia_core.resize import AreaResizer

LOG = LogScale()
ONE_PIXEL = AreaResizer((1, 1), (1, 1))


def exact(mean, scale, realizations):
    """The sum over all pairs of counts, for one Poisson number."""
    n = np.arange(int(mean + 15 * np.sqrt(mean) + 30))
    p, value = poisson.pmf(n, mean), scale.normalize(n.astype(float)).astype(float)
    if realizations == 1:
        return p @ np.abs(value - float(scale.normalize([mean])[0]))
    return p @ np.abs(value[:, None] - value) @ p


def expected_frame(shape=(120, 90), low=0.3, high=300.0):
    rows, columns = np.indices(shape)
    return low * (high / low) ** (rows / shape[0]) * (1 + 0.3 * np.sin(columns / 7))


@pytest.mark.parametrize("scale", [LOG, LinearScale(0, 10), LogScale(0.2, 1000.0)])
@pytest.mark.parametrize("realizations", [1, 2])
@given(mean=st.one_of(st.floats(0.001, 5), st.floats(5, 800)))
@hypothesis_settings(max_examples=25)
def test_the_closed_form_of_one_pixel_is_the_sum_over_all_counts(scale, realizations, mean):
    pixel = np.full((1, 1), mean)
    floor = poisson_floor_map(pixel, pixel >= 0, ONE_PIXEL, scale, realizations=realizations).item()
    assert floor == pytest.approx(exact(mean, scale, realizations), rel=0.015, abs=1e-7)


@pytest.mark.parametrize("realizations", [1, 2])
@pytest.mark.parametrize("shape", [(120, 90), (50, 37), (40, 30), (11, 13)])
def test_closed_form_and_drawn_exposures_agree_after_a_resize(shape, realizations):
    expected, valid = expected_frame(), np.ones((120, 90), bool)
    valid[40:47] = valid[:, 30:33] = False
    resizer = AreaResizer(valid.shape, shape)
    judged = resizer.coverage(valid) >= 0.5
    closed = poisson_floor(expected, valid, resizer, LOG, judged, realizations=realizations)
    drawn = monte_carlo_floor(
        expected, valid, resizer, LOG, judged, seed=0, realizations=realizations, n_draws=150_000 // judged.sum()
    )
    assert closed.n_pixels == drawn.n_pixels == judged.sum()
    assert closed.l1 == pytest.approx(drawn.l1, rel=0.015)
    assert closed.pearson_r is None
    assert 0.5 < drawn.pearson_r < 1


def test_two_exposures_measure_the_floor_of_two_realizations():
    """Aligned after a motion, with gaps, resized: what a real pair shows is what Poisson noise predicts."""
    rng, expected, valid = np.random.default_rng(0), expected_frame((240, 180)), np.ones((240, 180), bool)
    valid[100:117] = False
    first = rng.poisson(expected)
    moved, moved_valid = align(np.roll(rng.poisson(expected), 20, axis=0), valid, (20, 0))
    resizer = AreaResizer(valid.shape, (80, 60))
    measured = two_exposure_floor(first, moved, valid, moved_valid, resizer, LOG)
    both = valid & moved_valid
    judged = resizer.coverage(both) >= 0.5
    predicted = poisson_floor(expected, both, resizer, LOG, judged, realizations=2)
    assert measured.n_pixels == predicted.n_pixels
    assert measured.l1 == pytest.approx(predicted.l1, rel=0.04)
    assert measured.pearson_r > 0.99


def test_two_noisy_frames_differ_more_than_one_from_the_truth():
    expected, valid = expected_frame(low=20), np.ones((120, 90), bool)
    resizer = AreaResizer(valid.shape, (60, 45))
    one, two = (
        poisson_floor(expected, valid, resizer, LOG, np.ones((60, 45), bool), realizations=r).l1 for r in (1, 2)
    )
    assert two / one == pytest.approx(np.sqrt(2), rel=0.01)


def test_longer_exposures_have_a_lower_floor():
    expected, valid = expected_frame(low=50), np.ones((120, 90), bool)
    resizer, judged = AreaResizer(valid.shape, (60, 45)), np.ones((60, 45), bool)
    short, long = (poisson_floor(time * expected, valid, resizer, LOG, judged).l1 for time in (1, 100))
    assert long == pytest.approx(short / 10, rel=0.06)  # log1p is not quite a logarithm at 50 counts


def test_no_counts_mean_no_noise_and_gaps_have_none():
    expected = np.zeros((6, 4))
    valid = np.ones((6, 4), bool)
    valid[2:4] = False
    floor = poisson_floor_map(np.where(valid, expected, np.nan), valid, AreaResizer((6, 4), (3, 2)), LOG)
    np.testing.assert_array_equal(floor, [[0, 0], [np.nan, np.nan], [0, 0]])


@given(seed=st.integers(0, 99), size=st.sampled_from([1, 3, 5]))
def test_the_local_expectation_is_the_mean_of_the_measured_neighbors(seed, size):
    rng = np.random.default_rng(seed)
    counts, valid = rng.integers(0, 50, (9, 8)), rng.random((9, 8)) < 0.6
    answer, half = local_expectation(np.where(valid, counts, -1), valid, size), size // 2
    padded = np.pad(np.where(valid, counts, np.nan), half, mode="edge")
    for row, column in np.ndindex(9, 8):
        around = padded[row : row + size, column : column + size]
        expected = np.nanmean(around) if np.isfinite(around).any() else 0.0
        assert answer[row, column] == pytest.approx(expected, abs=1e-9)


def test_impossible_arguments_are_refused():
    valid, judged = np.ones((4, 4), bool), np.ones((2, 2), bool)
    resizer = AreaResizer((4, 4), (2, 2))
    with pytest.raises(ArrayError, match="expected counts must be finite and at least 0"):
        poisson_floor_map(np.full((4, 4), -1.0), valid, resizer, LOG)
    with pytest.raises(ArrayError, match="wanted one shape, and bool"):
        poisson_floor_map(np.ones((3, 4)), valid, resizer, LOG)
    with pytest.raises(SettingError, match="realizations is 3"):
        poisson_floor_map(np.ones((4, 4)), valid, resizer, LOG, realizations=3)
    with pytest.raises(ArrayError, match=r"judged must be bool \(2, 2\) with a True pixel"):
        poisson_floor(np.ones((4, 4)), valid, resizer, LOG, ~judged)
    valid[:2, :2] = False
    with pytest.raises(ArrayError, match="pixels are judged that were not measured"):
        poisson_floor(np.ones((4, 4)), valid, resizer, LOG, judged)
    with pytest.raises(SettingError, match="size is 4; it must be odd"):
        local_expectation(np.ones((4, 4)), valid, 4)
    with pytest.raises(SettingError, match="n_draws 0"):
        monte_carlo_floor(np.ones((4, 4)), valid, resizer, LOG, judged, seed=0, n_draws=0)
