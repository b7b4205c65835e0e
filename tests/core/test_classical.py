from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from skimage.restoration import inpaint_biharmonic

from dlsia_core.classical import (
    CLASSICAL_METHODS,
    BeamGeometry,
    azimuthal,
    azimuthal_harmonic,
    biharmonic,
    fill_gaps,
    harmonic,
    linear,
)
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.gaps import fill_linear, gap_columns, gap_rows
from dlsia_core.intensity import LogScale
from dlsia_core.resize import AreaResizer
from tasks.readers import ValidityRule, header_facts, open_file, valid_pixels

seeds = st.integers(0, 999)
shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))
ALL = sorted(CLASSICAL_METHODS)


def gapped(seed, shape, share=0.4):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(np.float32)
    values[rng.random(shape) < share] = np.nan
    return values


def gap_grid(shape=(60, 70)):
    gap = np.zeros(shape, bool)
    gap[20:25] = gap[45:49] = gap[:, 30:32] = True
    gap[5, 7] = gap[10:12, 60] = True
    return gap


def rings(shape, geometry):
    radius = geometry.radius(shape)
    return (np.exp(-(((radius - 20) / 3) ** 2)) + 0.02 * radius).astype(np.float32)


@pytest.mark.parametrize("method", ALL)
@given(seed=seeds, shape=st.tuples(st.integers(5, 12), st.integers(5, 12)))
def test_every_method_keeps_measured_pixels_to_the_bit_and_leaves_no_gap(method, seed, shape):
    frame = gapped(seed, shape, 0.25)
    frame[0, 0] = -0.0
    before = frame.tobytes()
    fill = fill_gaps(frame, method, BeamGeometry(3.2, 4.9))
    measured = ~np.isnan(frame)
    assert fill.method == method
    assert fill.values.dtype == np.float32
    assert fill.values[measured].tobytes() == frame[measured].tobytes()
    assert np.isfinite(fill.values).all()
    assert np.array_equal(fill.filled, ~measured)
    assert frame.tobytes() == before


@pytest.mark.parametrize("method", ALL)
def test_a_frame_without_gaps_comes_back_as_a_copy(method):
    frame = gapped(1, (6, 7), 0)
    fill = fill_gaps(frame, method, BeamGeometry(2, 2))
    assert np.array_equal(fill.values, frame)
    assert fill.values is not frame
    assert not fill.filled.any()


@pytest.mark.parametrize("method", ALL)
def test_a_constant_stays_that_constant_also_in_corners_and_crossings(method):
    gap = gap_grid()
    gap[:4, :4] = gap[-3:, -5:] = True
    frame = np.where(gap, np.float32(np.nan), np.float32(0.37))
    np.testing.assert_allclose(fill_gaps(frame, method, BeamGeometry(33, 30)).values, 0.37, rtol=1e-6)


@pytest.mark.parametrize("method", ALL)
def test_methods_follow_scale_and_offset_of_the_values(method):
    """No method has constants in units of intensity."""
    frame, geometry = gapped(4, (20, 20), 0.15).astype(np.float64), BeamGeometry(9, 11)
    once = fill_gaps(frame, method, geometry).values
    np.testing.assert_allclose(fill_gaps(3 * frame - 7, method, geometry).values, 3 * once - 7, atol=1e-9)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.ones((3, 3), int), "a frame must be floats"),
        (np.ones((1, 3, 3)), "a frame must be floats"),
        (np.array([[1.0, np.inf, np.nan]]), "holds infinity"),
        (np.full((3, 4), np.nan), r"the frame of \(3, 4\) px holds no measured pixel"),
    ],
)
def test_what_cannot_be_filled_is_refused_by_every_method(method, frame, message):
    with pytest.raises(ArrayError, match=message):
        fill_gaps(frame, method, BeamGeometry(0, 0))


def test_unknown_methods_and_a_missing_beam_center_are_refused():
    frame = gapped(0, (6, 6))
    with pytest.raises(SettingError, match="unknown classical method 'cubic'; known: biharmonic, linear"):
        fill_gaps(frame, "cubic")
    for method in ("azimuthal", "azimuthal_harmonic"):
        with pytest.raises(SettingError, match=f"{method} needs the beam center.*use biharmonic, linear, harmonic"):
            fill_gaps(frame, method)


# biharmonic and linear: the papers' baseline and the project's


@given(seed=seeds, shape=st.tuples(st.integers(5, 14), st.integers(5, 14)), share=st.floats(0.02, 0.5))
def test_biharmonic_is_scikit_images_for_the_whole_frame(seed, shape, share):
    frame = gapped(seed, shape, share).astype(np.float64)
    gap = np.isnan(frame)
    assume(gap.any())
    whole = inpaint_biharmonic(np.nan_to_num(frame), gap)
    np.testing.assert_allclose(biharmonic(frame), whole, rtol=1e-9, atol=1e-9)


def test_biharmonic_of_a_detectors_gaps_is_scikit_images_for_the_whole_frame():
    rng = np.random.default_rng(0)
    frame = np.where(gap_grid(), np.nan, rng.normal(size=(60, 70)))
    np.testing.assert_allclose(biharmonic(frame), inpaint_biharmonic(np.nan_to_num(frame), gap_grid()), atol=1e-12)


def test_biharmonic_continues_a_slope_where_harmonic_does_not():
    ramp = np.broadcast_to(np.linspace(0, 1, 30), (20, 30)).copy()
    frame = ramp.copy()
    frame[8:12, 10:15] = np.nan
    np.testing.assert_allclose(biharmonic(frame), ramp, atol=1e-9)
    parabola = (np.arange(30.0) - 12) ** 2 + np.zeros((20, 1))
    frame = parabola.copy()
    frame[3:17, 10:15] = np.nan
    errors = [np.abs(fill(frame) - parabola).max() for fill in (biharmonic, harmonic)]
    assert errors[0] < 0.5 * errors[1]


def test_biharmonic_is_clipped_to_the_measured_range_as_in_the_baseline():
    parabola = (np.arange(30.0) - 12) ** 2 + np.zeros((20, 1))
    frame = parabola.copy()
    frame[:, 10:15] = np.nan
    assert biharmonic(frame).min() == 9


def test_linear_is_the_projects_interpolation():
    frame = gapped(3, (20, 30))
    assert np.array_equal(linear(frame), fill_linear(frame))


# harmonic


@given(seed=seeds, shape=shapes, share=st.floats(0, 0.95))
def test_harmonic_pixels_are_the_mean_of_their_neighbors(seed, shape, share):
    frame = gapped(seed, shape, share).astype(np.float64)
    assume(not np.isnan(frame).all())
    filled = harmonic(frame)
    for row, column in np.argwhere(np.isnan(frame)):
        around = [
            filled[row + down, column + right]
            for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0))
            if 0 <= row + down < shape[0] and 0 <= column + right < shape[1]
        ]
        assert filled[row, column] == pytest.approx(np.mean(around), abs=1e-9)
    assert np.nanmin(frame) - 1e-9 <= filled.min() <= filled.max() <= np.nanmax(frame) + 1e-9


def test_harmonic_is_less_noisy_than_linear_interpolation():
    """Both are unbiased on a plane; the harmonic value averages the noise along the gap's edge."""
    rng = np.random.default_rng(0)
    frame = (rng.normal(size=(200, 200)) + np.arange(200) / 50).astype(np.float64)
    truth = np.broadcast_to(np.arange(200) / 50, (200, 200))
    frame[:, 50:56] = frame[100:106] = np.nan
    gap = np.isnan(frame)
    errors = {fill.__name__: np.abs(fill(frame) - truth)[gap].mean() for fill in (harmonic, linear, biharmonic)}
    assert errors["harmonic"] < 0.85 * errors["linear"]
    assert errors["harmonic"] < 0.75 * errors["biharmonic"]


# azimuthal


@given(row=st.floats(-30, 60), column=st.floats(-30, 60), height=st.floats(0.5, 2), width=st.floats(0.5, 2))
def test_radius_and_angle_agree_with_the_definition(row, column, height, width):
    geometry = BeamGeometry(row, column, height, width)
    down, right = (4 - row) * height, (2 - column) * width
    assert geometry.radius((6, 5))[4, 2] == pytest.approx(np.hypot(down, right))
    turns = geometry.angle((6, 5))
    assert np.all((turns >= 0) & (turns < 1))
    back = np.exp(2j * np.pi * turns[4, 2]) * np.hypot(down, right)
    assert (back.real, back.imag) == pytest.approx((right, down), abs=1e-9)


def test_a_resized_frame_has_the_same_circles():
    """Radii of resized pixels are those of the detector positions that they stand for, with unequal pixel sizes."""
    geometry = BeamGeometry(700.3, 400.8)
    resized = geometry.resized((1679, 1475), (512, 512))
    rows, columns = ((np.arange(512) + 0.5) * size / 512 - 0.5 for size in (1679, 1475))
    expected = np.hypot((rows - 700.3)[:, None], (columns - 400.8)[None])
    np.testing.assert_allclose(resized.radius((512, 512)), expected, rtol=1e-12)
    with pytest.raises(SettingError, match="at least 1 pixel"):
        geometry.resized((0, 4), (2, 2))


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("geometry", [BeamGeometry(30, 31), BeamGeometry(28, 44, 1.2, 0.9)])
def test_rings_are_restored_where_other_methods_blur_them(statistic, geometry):
    truth, gap = rings((60, 70), geometry), gap_grid()
    frame = np.where(gap, np.float32(np.nan), truth)
    error = np.abs(azimuthal(frame, geometry, statistic=statistic) - truth)[gap].mean()
    assert error < 0.02
    assert error < 0.6 * np.abs(linear(frame) - truth)[gap].mean()


def test_a_ring_takes_the_mean_or_median_of_its_measured_pixels():
    """Radii 1 and 2 on both sides of the beam; hand-computed."""
    frame = np.array([[8.0, 1.0, 2.0, 1.0, np.nan], [3.0, 5.0, 7.0, 9.0, 4.0]])
    geometry = BeamGeometry(0, 2)
    # radius 2 holds 8.0 at (0, 0) and both ends of row 1 (radius 2.24): 3.0 and 4.0; mean radius (2 + 2 * 5**0.5) / 3
    assert azimuthal(frame, geometry)[0, 4] == pytest.approx(
        np.interp(2, [(3 + 2 * 2**0.5) / 5, (2 + 2 * 5**0.5) / 3], [23 / 5, 5])
    )
    assert azimuthal(frame, geometry, statistic="median")[0, 4] == pytest.approx(
        np.interp(2, [(3 + 2 * 2**0.5) / 5, (2 + 2 * 5**0.5) / 3], [5, 4])
    )


@given(seed=seeds, sectors=st.integers(1, 5), statistic=st.sampled_from(["mean", "median"]))
def test_grouping_agrees_with_a_loop(seed, sectors, statistic):
    """One bin wide enough for all: the ring is then the statistic of all measured pixels."""
    frame = gapped(seed, (9, 11), 0.3).astype(np.float64)
    assume(np.isnan(frame).any())
    answer = azimuthal(frame, BeamGeometry(4, 5), statistic=statistic, bin_width=1000)
    expected = {"mean": np.nanmean, "median": np.nanmedian}[statistic](frame)
    np.testing.assert_allclose(answer[np.isnan(frame)], expected)


def test_sectors_follow_a_pattern_that_rings_cannot():
    geometry = BeamGeometry(50.2, 49.7)
    turns = geometry.angle((100, 100))
    truth = np.cos(4 * np.pi * turns) + 0.01 * geometry.radius((100, 100))
    frame = truth.copy()
    frame[60:64] = frame[20:24] = frame[:, 70:73] = np.nan
    gap = np.isnan(frame)
    errors = [np.abs(azimuthal(frame, geometry, sectors=n, bin_width=4) - truth)[gap].mean() for n in (1, 24)]
    assert errors[1] < 0.15 * errors[0]


def test_sectors_are_neighbors_across_the_start_of_the_circle():
    geometry = BeamGeometry(50, 50)
    truth = np.sin(2 * np.pi * geometry.angle((101, 101)))
    frame = truth.copy()
    frame[49:52, 60:90] = np.nan  # around angle 0
    gap = np.isnan(frame)
    assert np.abs(azimuthal(frame, geometry, sectors=36, bin_width=4) - truth)[gap].max() < 0.1


def test_what_rings_leave_over_is_filled_harmonically():
    geometry = BeamGeometry(30, 31)
    truth = rings((60, 70), geometry) + np.linspace(0, 1, 70, dtype=np.float32)
    frame = np.where(gap_grid(), np.float32(np.nan), truth)
    errors = [
        np.abs(fill - truth)[gap_grid()].mean()
        for fill in (azimuthal(frame, geometry), harmonic(frame), azimuthal_harmonic(frame, geometry))
    ]
    assert errors[2] < 0.5 * min(errors[:2])


def test_a_beam_far_outside_makes_no_large_tables():
    frame = gapped(0, (20, 30), 0.1)
    assert np.isfinite(azimuthal(frame, BeamGeometry(-1e7, 3))).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistic": "mode"}, "unknown statistic 'mode'; known: mean, median"),
        ({"bin_width": 0.0}, "bin_width is 0.0 pixels"),
        ({"bin_width": float("nan")}, "bin_width is nan pixels"),
        ({"sectors": 0}, "sectors is 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(SettingError, match=message):
        azimuthal(gapped(0, (5, 5)), BeamGeometry(2, 2), **change)


@pytest.mark.parametrize("wrong", [(np.nan, 0), (0, np.inf), (0, 0, 0.0), (0, 0, 1, -1)])
def test_impossible_geometry_is_refused(wrong):
    with pytest.raises(SettingError, match="wanted two"):
        BeamGeometry(*wrong)


def test_harmonic_beats_both_baselines_on_real_frames(real_frames: Path):
    """Strips moved off the true gaps; mean absolute error of the logarithm on what was measured there."""
    path = real_frames / "cbf" / "p03_gisaxs" / "jg_gisaxs_4nm_old_3ml_insitu_ds03_00001_00005.cbf"
    if not path.exists():
        pytest.skip("no P03 frames")
    with open_file(path) as file:
        frame = file.read(0)
    valid = valid_pixels(frame.counts, header_facts(frame.header), ValidityRule())
    hidden = np.zeros(valid.shape, bool)
    for start, stop in gap_rows(valid):
        hidden[start + 40 : stop + 40] = True
    for start, stop in gap_columns(valid):
        hidden[:, start + 90 : stop + 90] = True
    resizer = AreaResizer(valid.shape, (512, 512))
    truth, shown = (LogScale().normalize(resizer.resize(frame.counts, v)[0]) for v in (valid, valid & ~hidden))
    judged = np.isnan(shown) & ~np.isnan(truth)
    errors = {
        name: np.abs(fill_gaps(shown, name).values - truth)[judged].mean()
        for name in ("biharmonic", "linear", "harmonic")
    }
    assert errors["harmonic"] < 0.92 * min(errors["linear"], errors["biharmonic"])
    assert max(errors.values()) < 0.012
