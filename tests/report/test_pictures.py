"""Pictures: one scale for both frames of a pair, and a color that no value has for what was not measured."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dlsia_core.errors import ArrayError
from tasks.report.content import FramePair
from tasks.report.pictures import picture_section
from tasks.report.pixels import (
    DEAD_COLOR,
    INPAINTED_COLOR,
    NOT_MEASURED,
    ColorScale,
    color_indices,
    color_table,
    reduce_provenance,
    reduce_values,
)


def images(markup):
    uris = re.findall(r'<img src="data:image/png;base64,([^"]+)"', markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB")) for uri in uris]


def test_equal_values_have_equal_colors_before_and_after_though_the_ranges_differ():
    before = np.full((20, 20), np.nan, np.float32)
    before[:, :10] = np.linspace(0.2, 0.4, 10)
    after = np.where(np.isnan(before), np.float32(0.9), before)
    shown_before, shown_after, *_ = images(picture_section(FramePair("f", before, after, np.isnan(before).view("u1"))))
    np.testing.assert_array_equal(shown_before[:, :10], shown_after[:, :10])
    assert (shown_after[:, 10:] != shown_before[:, 10:]).any(axis=-1).all()


def test_pixels_that_were_not_measured_are_grey_and_nothing_else_is(make_pair):
    pair = make_pair()
    before, after, origin, *_ = images(picture_section(pair))
    for shown, values in ((before, pair.before), (after, pair.after)):
        np.testing.assert_array_equal((shown == NOT_MEASURED).all(axis=-1), np.isnan(values))
    np.testing.assert_array_equal((origin == INPAINTED_COLOR).all(axis=-1), pair.provenance == 1)
    np.testing.assert_array_equal((origin == DEAD_COLOR).all(axis=-1), pair.provenance == 2)


def test_grey_is_far_from_every_color_of_the_map():
    table = color_table(128).astype(int)
    assert np.abs(table[:-1] - table[-1]).max(axis=1).min() > 60


def test_color_map_grows_lighter_with_the_value():
    lightness = color_table(128)[:-1] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[-1] - lightness[0] > 150


def test_zero_is_a_color_of_the_scale_and_not_the_one_of_gaps():
    indices = color_indices(np.array([[0.0, np.nan]], np.float32), ColorScale(0, 1), 64)
    assert indices.tolist() == [[0, 64]]


def test_frames_where_nothing_was_measured_are_all_grey_and_say_so():
    nothing = np.full((60, 50), np.nan, np.float32)
    section = picture_section(FramePair("dark", nothing, nothing, np.full((60, 50), 2, np.uint8)))
    before, after, origin = images(section)
    assert (before == NOT_MEASURED).all()
    assert (after == NOT_MEASURED).all()
    assert (origin == DEAD_COLOR).all()
    assert "No pixel was measured" in section
    assert "dead: 3,000 pixels (100.00 %)" in section


def test_detail_is_cut_around_the_brightest_inpainted_pixel():
    values = np.zeros((300, 300), np.float32)
    provenance = np.zeros((300, 300), np.uint8)
    provenance[100] = 1
    values[100, 200] = 1
    values[10, 10] = 5
    section = picture_section(FramePair("f", values, values, provenance))
    assert "rows 75 to 124, columns 175 to 224" in section
    assert images(section)[3].shape == (50, 50, 3)


def test_large_frames_are_averaged_down_and_the_page_says_so(make_pair):
    section = picture_section(make_pair((1250, 900)))
    assert "shown averaged over 3 × 3 pixels" in section
    assert images(section)[0].shape == (417, 300, 3)


def test_hot_pixel_does_not_darken_the_frame():
    values = np.linspace(0, 1, 100_000, dtype=np.float32).reshape(250, 400)
    values[3, 3] = 1000
    assert ColorScale.of(values).high < 1.01


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_reduced_values_are_means_of_measured_pixels_of_blocks(rows, columns, factor, seed):
    rng = np.random.default_rng(seed)
    values = rng.uniform(size=(rows, columns)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    reduced = reduce_values(values, factor)
    for row, column in np.ndindex(reduced.shape):
        block = values[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        measured = block[~np.isnan(block)]
        if 2 * measured.size > block.size:
            assert reduced[row, column] == pytest.approx(measured.mean(), rel=1e-5)
        else:
            assert np.isnan(reduced[row, column])


def test_thin_gap_survives_in_the_reduced_provenance():
    provenance = np.zeros((9, 9), np.uint8)
    provenance[4] = 1
    assert reduce_provenance(provenance, 3).tolist() == [[0] * 3, [1] * 3, [0] * 3]


def test_shapes_and_codes_that_do_not_fit_are_refused():
    values = np.zeros((3, 4), np.float32)
    with pytest.raises(ArrayError, match=r"pictures of 'f'.*\(3, 4\).*must be the same"):
        FramePair("f", values, values, np.zeros((4, 3), np.uint8))
    with pytest.raises(ArrayError, match="holds 3; allowed are 0, 1 and 2"):
        FramePair("f", values, values, np.full((3, 4), 3, np.uint8))
