"""What is promised of inpainted values is shown beside what was measured; what is not known has a color of its own."""

import math

import numpy as np
import pytest

from dlsia_core.errors import ArrayError
from tasks.report import FramePair, Sureness, judge, render_report, summary_markdown
from tasks.report.pictures import picture_section
from tasks.report.pixels import DEAD_COLOR, ColorScale, reduce_largest, reduce_values
from tasks.report.sureness import LEVELS, PANEL, half_width_image, half_width_scale, sureness_section

MEASURED = {
    "coverage": 0.9049, "low": 0.891, "high": 0.917, "half_width": 0.0167, "frames": 12, "pixels": 48_000,
    "way": "each frame by the others",
}  # fmt: skip


@pytest.fixture
def sure_pair(make_pair) -> FramePair:
    """A column of inpainted pixels whose errors grow downwards, and a dead row."""
    pair = make_pair()
    half = np.where(pair.provenance == 0, np.float32(0), np.float32(np.nan))
    inpainted = pair.provenance == 1
    half[inpainted] = np.linspace(0.01, 0.05, inpainted.sum())
    return FramePair(pair.name, pair.before, pair.after, pair.provenance, half)


def whole(pair):
    indices, colors = half_width_image(pair, half_width_scale(pair), lambda v: v, lambda v: v)
    return colors[indices]


def test_promised_and_measured_coverage_stand_side_by_side():
    text = sureness_section(Sureness(0.9, 12, MEASURED))
    for shown in ("90.0 %", "90.5 %", "89.1 % to 91.7 %", "0.0167", ">12<", "48,000", "each frame by the others"):
        assert shown in text
    alone = sureness_section(Sureness(0.9, 12, {**MEASURED, "low": math.nan, "high": math.nan}))
    assert "nan" not in alone.lower()


def test_without_calibration_the_reason_is_said():
    assert "No calibrated error: 2 frames are too few." in sureness_section(
        Sureness(0.9, 2, None, "2 frames are too few")
    )


def test_measured_pixels_are_light_and_grey_errors_colored_and_dead_pixels_apart(sure_pair):
    shown = whole(sure_pair).astype(int)
    measured, inpainted, dead = (sure_pair.provenance == code for code in (0, 1, 2))
    assert (shown[measured].max(axis=-1) == shown[measured].min(axis=-1)).all()
    assert shown[measured].min() > 140
    assert (shown[dead] == DEAD_COLOR).all()
    colored = shown[inpainted]
    assert not (colored == DEAD_COLOR).all(axis=-1).any()
    assert (np.ptp(colored, axis=-1) > 20).all()


def test_larger_errors_are_farther_up_the_scale(sure_pair):
    scale = half_width_scale(sure_pair)
    indices, _ = half_width_image(sure_pair, scale, lambda v: v, lambda v: v)
    column = indices[sure_pair.provenance == 1].astype(int)
    assert (np.diff(column) >= 0).all()
    assert column[0] < LEVELS / 3
    assert column[-1] == LEVELS - 1
    assert scale.low == 0


def test_errors_of_a_thin_gap_survive_in_a_small_picture():
    half = np.zeros((700, 30), np.float32)
    half[:, 7] = 0.02
    values = np.full(half.shape, 0.5, np.float32)
    pair = FramePair("f", values, values, (half > 0).astype(np.uint8), half)
    reduced = (lambda v: reduce_values(v, 2)), (lambda v: reduce_largest(v, 2))
    indices, _ = half_width_image(pair, ColorScale(0, 0.02), *reduced)
    assert (indices[:, 3] == LEVELS - 1).all()
    assert (np.delete(indices, 3, axis=1) > LEVELS).all()


def test_a_frame_with_errors_has_four_panels_and_one_without_three(make_pair, sure_pair):
    plain, sure = picture_section(make_pair()), picture_section(sure_pair)
    assert PANEL not in plain
    assert "--columns" not in plain
    assert sure.count("--columns: 4") == plain.count('class="panels"')
    nothing = FramePair(sure_pair.name, sure_pair.before, sure_pair.after, sure_pair.provenance,
                        np.full(sure_pair.after.shape, np.nan, np.float32))  # fmt: skip
    assert "No error is known in this frame." in picture_section(nothing)


def test_errors_of_another_shape_are_refused(make_pair):
    pair = make_pair()
    with pytest.raises(ArrayError, match="before, after, provenance and uncertainty have shapes"):
        FramePair("f", pair.before, pair.after, pair.provenance, np.zeros((2, 2), np.float32))


def test_the_page_says_how_sure_and_how_many_frames_are_strange(make_content):
    content = make_content(frames={"ingested": 48}, quarantined=(), frames_found=48,
                           sureness=Sureness(0.9, 12, MEASURED), unfamiliar=3)  # fmt: skip
    verdict = judge(content)
    assert verdict.text == "48 of 48 frames processed, nothing lost, 3 unlike those that the model knows"
    assert verdict.level == "attention"
    assert '<a href="#sure">How sure</a>' in render_report(content)
    assert "3 unlike those that the model knows" in summary_markdown(content)
    assert "How sure" not in render_report(make_content())
