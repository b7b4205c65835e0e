"""Metrics stand for the whole set: the same for any batches, and the same as an independent implementation."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as reference

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics import (
    RegressionMetrics,
    SegmentationMetrics,
    bootstrap_interval,
    classification_scores,
    confusion_matrix,
    confusion_parts,
    moving_block_interval,
    pair_moments,
    regression_parts,
    regression_scores,
    regression_statistic,
    segmentation_scores,
)


def one_logit(label: list[int]) -> torch.Tensor:
    """Logits (frame, 1, x) of a binary network that answers `label`."""
    return torch.tensor(label, dtype=torch.float32)[:, None, None] * 2 - 1


def test_f1_over_unequal_batches_is_that_of_the_whole_set() -> None:
    """Averaged over batches it would be (1 + 0) / 2 = 0.5; over the set 2 * 4 / (2 * 4 + 2) = 0.8."""
    metrics = SegmentationMetrics(classes=2)
    for truth, answer in (([1, 1, 1, 1], [1, 1, 1, 1]), ([1, 0], [0, 1])):
        target = torch.tensor(truth)[:, None]
        metrics.update(one_logit(answer), target, torch.ones(target.shape))
    assert metrics.compute()["f1_binary"] == 0.8


@pytest.mark.parametrize("averaged", [None, (1, 2, 3)])
def test_scores_agree_with_scikit_learn(averaged: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 4, size=(2, 500)).astype(np.uint8)
    scores = segmentation_scores(label, predicted, classes=4, averaged_classes=averaged)
    functions = {
        "f1": reference.f1_score,
        "iou": reference.jaccard_score,
        "precision": reference.precision_score,
        "recall": reference.recall_score,
    }
    for name, function in functions.items():
        for average in ("micro", "macro"):
            wanted = function(label, predicted, labels=averaged, average=average)
            assert scores[f"{name}_{average}"] == pytest.approx(wanted, abs=1e-12)
        per_class = [scores[f"{name}_class_{c}"] for c in range(4)]
        np.testing.assert_allclose(per_class, function(label, predicted, average=None), rtol=1e-12)
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(label, predicted), abs=1e-12)
    assert np.array_equal(confusion_matrix(label, predicted, 4), reference.confusion_matrix(label, predicted))


@given(data=st.data(), classes=st.integers(2, 4), frames=st.integers(1, 6))
def test_batches_and_their_order_do_not_matter_to_the_last_bit(data, classes: int, frames: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    logits = torch.from_numpy(rng.normal(size=(frames, classes, 3, 2)).astype(np.float32))
    target = torch.from_numpy(rng.choice([*range(classes), 255], size=(frames, 3, 2)).astype(np.uint8))
    weight = torch.from_numpy(rng.integers(0, 2, size=(frames, 3, 2)).astype(np.float32))
    whole, parts, other = (SegmentationMetrics(classes) for _ in range(3))
    whole.update(logits, target, weight)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, frames), max_size=3))), frames]
    batches = [slice(a, b) for a, b in pairwise(cuts)]
    for number, batch in enumerate(data.draw(st.permutations(batches))):
        (parts if number % 2 else other).update(logits[batch], target[batch], weight[batch])
    parts.merge(other)
    assert np.array_equal(parts.matrix, whole.matrix)
    counted = (weight > 0) & (target != 255)
    assert parts.matrix.sum() == int(counted.sum())
    expected = confusion_matrix(target.numpy(), logits.argmax(1).numpy(), classes, valid=weight.numpy() > 0)
    assert np.array_equal(whole.matrix, expected)


def test_a_class_that_is_nowhere_is_nan_and_left_out_of_macro() -> None:
    scores = segmentation_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), classes=4)
    assert math.isnan(scores["f1_class_2"])
    assert math.isnan(scores["iou_class_3"])
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 0.8) / 2)
    # Answered but never there: an error that counts, unlike a class that is nowhere.
    wrong = segmentation_scores(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), classes=3)
    assert wrong["f1_class_2"] == 0
    assert math.isnan(wrong["recall_class_2"])
    assert all(math.isnan(value) for value in classification_scores(np.zeros((3, 3))).values())


def test_ignored_unmeasured_and_weightless_pixels_do_not_count() -> None:
    metrics = SegmentationMetrics(classes=2)
    target = torch.tensor([[[[1, 1, 255, 0]]]])
    weight = torch.tensor([[[[0.25, 0.0, 1.0, 3.0]]]])
    metrics.update(torch.tensor([[[[1.0, float("nan"), float("nan"), -1.0]]]]), target, weight)
    assert metrics.matrix.tolist() == [[1, 0], [0, 1]]
    metrics.reset()
    assert metrics.matrix.sum() == 0


def test_what_cannot_be_counted_is_refused() -> None:
    metrics, ones = SegmentationMetrics(classes=3), torch.ones(1, 2)
    logits = torch.zeros(1, 3, 2)
    with pytest.raises(ArrayError, match=r"target holds 7; wanted whole numbers in 0 \.\. 2"):
        metrics.update(logits, torch.tensor([[0, 7]]), ones)
    with pytest.raises(ArrayError, match="wanted whole numbers"):
        metrics.update(logits, torch.tensor([[0.5, 1.0]]), ones)
    with pytest.raises(ArrayError, match=r"wanted \(frame, 3, \.\.\.\)"):
        metrics.update(torch.zeros(1, 1, 2), torch.tensor([[0, 1]]), ones)
    with pytest.raises(ArrayError, match=r"weight has shape \(1, 3\)"):
        metrics.update(logits, torch.tensor([[0, 1]]), torch.ones(1, 3))
    with pytest.raises(ArrayError, match="NaN on pixels that count"):
        metrics.update(logits * float("nan"), torch.tensor([[0, 1]]), ones)
    with pytest.raises(ArrayError, match="label holds -1"):
        confusion_matrix(np.array([-1, 0]), np.array([0, 0]), classes=2)
    with pytest.raises(ArrayError, match="whole numbers"):
        confusion_matrix(np.array([0.0]), np.array([0]), classes=2)
    with pytest.raises(SettingError, match="averaged_classes"):
        SegmentationMetrics(classes=2, averaged_classes=(2,))
    assert metrics.matrix.sum() == 0


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 40), center=st.sampled_from([0.0, 1e8]))
def test_regression_in_batches_is_that_of_the_whole_set(seed: int, cut: int, center: float) -> None:
    rng = np.random.default_rng(seed)
    truth = center + rng.normal(size=40)
    prediction = truth + rng.normal(size=40)
    metrics = RegressionMetrics()
    for part in (slice(cut, 40), slice(0, cut)):
        x, y = torch.from_numpy(prediction[part]), torch.from_numpy(truth[part])
        metrics.update(x, y, torch.ones(x.shape))
    # The independent value is computed about the known center, where nothing is lost. Sums of squares would lose all:
    # 1e16 has an uncertainty of 1 in float64.
    wanted = np.corrcoef(prediction - center, truth - center)[0, 1]
    result = metrics.compute()
    assert result["pearson_r"] == pytest.approx(wanted, abs=1e-6 if center else 1e-13)
    assert result["l1"] == pytest.approx(np.abs(prediction - truth).mean(), rel=1e-12)
    assert result["l2"] == pytest.approx(((prediction - truth) ** 2).mean(), rel=1e-12)
    assert regression_scores(prediction, truth) == pytest.approx(result, abs=1e-6 if center else 1e-12)


def test_pearson_keeps_its_digits_far_from_zero() -> None:
    """Sums of squares would lose a spread of 1e-3 at a mean of 1e6 (float64 has 16 digits of 1e12)."""
    rng = np.random.default_rng(1)
    small = rng.normal(size=(2, 10_000)) * 1e-3
    small[1] += small[0]
    far = (small + 1e6).reshape(2, 100, 100)
    moments = pair_moments(far[0, :0], far[1, :0])
    for x, y in zip(*far, strict=True):
        moments = moments.merge(pair_moments(x, y))
    assert moments.scores()["pearson_r"] == pytest.approx(pearsonr(*small).statistic, abs=1e-6)


def test_weights_count_like_repeated_pixels_and_hidden_truth_may_be_nan() -> None:
    x, y = np.array([1.0, 2.0, 4.0, 9.0]), np.array([1.0, 3.0, 3.0, np.nan])
    weighted = regression_scores(x, y, np.array([1, 2, 1, 0]))
    assert weighted == pytest.approx(regression_scores(x[[0, 1, 1, 2]], y[[0, 1, 1, 2]]))
    metrics = RegressionMetrics()
    metrics.update(torch.from_numpy(x), torch.from_numpy(y), torch.tensor([1.0, 2.0, 1.0, 0.0]))
    assert metrics.compute() == pytest.approx(weighted)


def test_undefined_regression_scores_are_nan_and_bad_numbers_are_refused() -> None:
    assert all(math.isnan(value) for value in RegressionMetrics().compute().values())
    constant = regression_scores(np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert math.isnan(constant["pearson_r"])
    assert constant["l1"] == 1
    metrics, ones = RegressionMetrics(), torch.ones(2)
    with pytest.raises(ArrayError, match="not finite"):
        metrics.update(torch.tensor([1.0, float("nan")]), ones, ones)
    with pytest.raises(ArrayError, match="0 or greater"):
        metrics.update(ones, ones, -ones)
    with pytest.raises(ArrayError, match="must be the same"):
        metrics.update(ones, torch.ones(2, 1), ones)
    with pytest.raises(ArrayError, match="not finite"):
        pair_moments(np.array([np.inf]), np.array([0.0]))


def test_half_precision_answers_are_added_in_double() -> None:
    """A float32 sum of 2e7 ones stops at 16,777,216; bfloat16 at 256."""
    metrics, ones = RegressionMetrics(), torch.ones(1000, dtype=torch.bfloat16)
    for _ in range(3):
        metrics.update(ones, ones * 2, ones)
    assert metrics.moments.weight == 3000
    assert metrics.compute()["l1"] == 1


def test_bootstrap_covers_the_truth_as_often_as_promised() -> None:
    """Frames with their own hit rate around 0.8; the 95 % interval must hold 0.8 in 95 % of the sets or nearly."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        hits = rng.binomial(100, rng.beta(16, 4, size=40))
        parts = np.stack([hits, np.full(40, 100)], axis=-1)
        interval = bootstrap_interval(parts, lambda sums: sums[0] / sums[1], seed=1, resamples=300)
        held += interval.low <= 0.8 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_bootstrap_of_frames_is_wider_than_that_of_pixels_that_resemble_each_other() -> None:
    rng = np.random.default_rng(0)
    hit = np.repeat(rng.random(20) < 0.8, 100).astype(int)
    by_frame, by_pixel = (
        bootstrap_interval(
            np.stack([hit.reshape(n, -1).sum(1), np.full(n, 2000 // n)], -1), lambda s: s[0] / s[1], seed=0
        )
        for n in (20, 2000)
    )
    assert by_frame.estimate == by_pixel.estimate
    assert by_frame.high - by_frame.low > 5 * (by_pixel.high - by_pixel.low)


def test_moving_blocks_see_the_correlation_of_neighbors() -> None:
    """Squares of 8 x 8 equal pixels: 64 independent numbers in a frame; blocks of one pixel take them for 4096."""
    rng = np.random.default_rng(0)
    hit = np.kron(rng.random((8, 8)) < 0.7, np.ones((8, 8)))[None]
    parts = np.stack([hit, np.ones_like(hit)], axis=-1)
    single, blocks = (
        moving_block_interval(parts, lambda s: s[0] / s[1], (b, b), seed=0, resamples=400) for b in (1, 16)
    )
    width = blocks.high - blocks.low
    assert single.high - single.low == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 / 4096), rel=0.25)
    assert 0.6 * 2 * 1.96 * math.sqrt(0.7 * 0.3 / 64) < width < 1.4 * 2 * 1.96 * math.sqrt(0.7 * 0.3 / 64)
    assert blocks.low < blocks.estimate < blocks.high


def test_moving_blocks_add_exactly_the_pixels_inside() -> None:
    """One block that fills the frame can only be drawn as it is, so all resamples are the frame."""
    parts = np.random.default_rng(0).random((1, 5, 7, 3))
    interval = moving_block_interval(parts, lambda s: float(s[2]), (5, 7), seed=0, resamples=20)
    assert interval.low == pytest.approx(interval.high) == pytest.approx(parts[..., 2].sum())
    volume = moving_block_interval(parts[:, :, None], lambda s: float(s[2]), (5, 1, 7), seed=0, resamples=20)
    assert volume.estimate == pytest.approx(interval.estimate)


def test_parts_of_frames_add_up_to_the_scores_of_the_set() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 3, size=(2, 6, 5, 5))
    parts = confusion_parts(label, predicted, classes=3)
    interval = bootstrap_interval(parts, lambda matrix: classification_scores(matrix)["f1_macro"], seed=0)
    assert interval.estimate == pytest.approx(segmentation_scores(label, predicted, classes=3)["f1_macro"])
    truth = rng.normal(size=(6, 30)) + 1000
    prediction, valid = truth + rng.normal(size=truth.shape), rng.random(truth.shape) < 0.5
    numbers = regression_parts(prediction, np.where(valid, truth, np.nan), valid)
    for name, wanted in regression_scores(prediction, truth, valid).items():
        result = bootstrap_interval(numbers, regression_statistic(name), seed=0)
        assert result.estimate == pytest.approx(wanted, abs=1e-9)
        assert result.low < result.estimate < result.high
        assert result.undefined == 0


def test_bootstrap_is_seeded_counts_the_undefined_and_refuses_one_unit() -> None:
    parts = np.array([[1, 2], [0, 0], [0, 0]])

    def share(sums: np.ndarray) -> float:
        return float(sums[0] / sums[1]) if sums[1] else float("nan")

    first, again, other = (bootstrap_interval(parts, share, seed=s, resamples=99) for s in (3, 3, 4))
    assert first == again != other
    assert first.undefined == pytest.approx(99 * (2 / 3) ** 3, abs=20)
    assert (first.low, first.high) == (0.5, 0.5)
    with pytest.raises(ArrayError, match="at least 2 units"):
        bootstrap_interval(parts[:1], share, seed=0)
    with pytest.raises(ArrayError, match="block_shape"):
        moving_block_interval(np.ones((1, 4, 4, 2)), share, (5, 1), seed=0)
    with pytest.raises(SettingError, match="confidence"):
        bootstrap_interval(parts, share, seed=0, confidence=95)
