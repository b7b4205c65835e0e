import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.inpainting_scores import compare_methods, pool_scores, score_frame

seeds = st.integers(0, 999)


def frames(seed, n, shape=(6, 7), error=1.0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        truth = rng.normal(rng.normal(), 1, shape)
        judged = rng.random(shape) < 0.6
        judged[0, 0] = judged[1, 1] = True
        yield truth + error * rng.normal(size=shape), truth, judged


@given(seed=seeds, n=st.integers(1, 6))
def test_a_set_scores_as_all_its_pixels_together(seed, n):
    """Not as the mean of its frames: dlsia averages unequal batches."""
    taken = list(frames(seed, n))
    pooled = pool_scores(score_frame(*frame) for frame in taken).scores()
    predicted, truth = (np.concatenate([frame[i][frame[2]] for frame in taken]) for i in (0, 1))
    assert pooled["l1"] == pytest.approx(np.abs(predicted - truth).mean())
    assert pooled["pearson_r"] == pytest.approx(np.corrcoef(predicted, truth)[0, 1])


def test_only_judged_pixels_count():
    predicted, truth, judged = next(frames(0, 1))
    reference = score_frame(predicted, truth, judged)
    predicted[~judged], truth[~judged] = np.nan, 1e9
    assert score_frame(predicted, truth, judged) == reference
    assert reference.weight == judged.sum()


def test_hand_computed_row():
    """Errors 1, 3 of two pixels and 2 of one: L1 is 6 / 3, not (2 + 2) / 2 by accident, nor 2."""
    all_of = np.ones(2, bool)
    zero = np.zeros(2)
    method = [score_frame(np.array([1.0, 3.0]), zero, all_of), score_frame(np.array([5.0]), zero[:1], all_of[:1])]
    linear = [score_frame(np.array([4.0, 4.0]), zero, all_of), score_frame(np.array([4.0]), zero[:1], all_of[:1])]
    row, other = compare_methods({"network": method, "linear": linear}, "vertical", noise_floor=1.5, seed=0)
    assert (row.method, row.gaps, row.n_frames, row.n_pixels) == ("network", "vertical", 2, 3)
    assert row.l1 == pytest.approx(3.0)
    assert row.l1_over_linear == pytest.approx(0.75)
    assert row.l1_over_noise_floor == pytest.approx(2.0)
    assert row.pearson_r is None  # the truth is constant
    assert (row.l1_over_biharmonic, row.l1_over_biharmonic_low) == (None, None)
    assert (row.l1_low, row.l1_high) == (2.0, 5.0)  # of the draws (a, a), (a, b), (b, b)
    assert other.l1_over_linear == other.l1_over_linear_low == other.l1_over_linear_high == 1.0


def test_columns_of_the_results_table_come_first_and_in_order():
    row = compare_methods({"linear": [score_frame(*frame) for frame in frames(0, 3)]}, "horizontal")[0]
    assert list(row.to_dict())[:11] == [
        "method", "gaps", "n_frames", "n_pixels", "l1", "l1_low", "l1_high", "pearson_r", "l1_over_biharmonic",
        "l1_over_linear", "noise_floor",
    ]  # fmt: skip


def test_intervals_hold_the_true_error_as_often_as_they_promise():
    """Frames of very unequal error, the case in which counting pixels instead of frames would be far too sure."""
    hits, n_sets = 0, 200
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        scores = []
        for level in rng.exponential(1.0, 40):
            truth = rng.normal(size=(10, 10))
            scores.append(score_frame(truth + level * rng.normal(size=(10, 10)), truth, np.ones((10, 10), bool)))
        row = compare_methods({"m": scores}, "vertical", seed=seed, resamples=200)[0]
        hits += row.l1_low <= np.sqrt(2 / np.pi) <= row.l1_high
    assert 0.86 * n_sets <= hits <= 0.99 * n_sets


def test_ratios_are_surer_than_what_they_are_made_of():
    """Both methods meet the same hard frames, so their ratio varies far less than either error."""
    rng = np.random.default_rng(0)
    scores = {"biharmonic": [], "network": []}
    for level in rng.exponential(1.0, 60):
        truth = rng.normal(size=(20, 20))
        for name, factor in (("biharmonic", 1.0), ("network", 0.7)):
            noisy = truth + factor * level * rng.normal(size=(20, 20))
            scores[name].append(score_frame(noisy, truth, np.ones((20, 20), bool)))
    row = compare_methods(scores, "horizontal", seed=1)[1]
    assert row.l1_over_biharmonic_low < 0.7 < row.l1_over_biharmonic_high
    assert (row.l1_over_biharmonic_high - row.l1_over_biharmonic_low) < 0.3 * (row.l1_high - row.l1_low) / row.l1


def test_equal_seeds_give_equal_rows():
    scores = {"linear": [score_frame(*frame) for frame in frames(3, 9)]}
    assert compare_methods(scores, "vertical", seed=4) == compare_methods(scores, "vertical", seed=4)
    assert compare_methods(scores, "vertical", seed=4) != compare_methods(scores, "vertical", seed=5)


def test_a_single_frame_has_no_interval():
    row = compare_methods({"linear": [score_frame(*frame) for frame in frames(0, 1)]}, "vertical")[0]
    assert (row.l1_low, row.l1_high, row.l1_over_linear_low) == (None, None, None)
    assert row.l1 > 0


def test_methods_must_be_scored_on_the_same_pixels():
    scores = [score_frame(*frame) for frame in frames(0, 3)]
    with pytest.raises(ArrayError, match=r"b was scored on .* px of 2 frames and a on .* px of 3; .* the same pixels"):
        compare_methods({"a": scores, "b": scores[:2]}, "vertical")
    with pytest.raises(ArrayError, match=r"nothing has been scored by \['b'\]"):
        compare_methods({"a": scores, "b": []}, "vertical")
    with pytest.raises(ArrayError, match="nothing has been scored by any method"):
        compare_methods({}, "vertical")
    with pytest.raises(SettingError, match="confidence is 95"):
        compare_methods({"a": scores}, "vertical", confidence=95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judged": np.zeros((6, 7), bool)}, "no pixel is judged"),
        ({"judged": np.ones((6, 7), np.uint8)}, "judged must be bool; got uint8"),
        ({"truth": np.ones((3, 3))}, "must have one shape"),
        ({"predicted": np.full((6, 7), np.nan)}, "judged pixels are not finite in predicted"),
        ({"truth": np.full((6, 7), np.inf)}, "judged pixels are not finite in truth"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, message):
    frame = dict(zip(("predicted", "truth", "judged"), next(frames(0, 1)), strict=True)) | change
    with pytest.raises(ArrayError, match=message):
        score_frame(**frame)
