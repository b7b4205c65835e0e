"""Labels are shared out in whole blocks that keep apart; figures and sets come from held-out ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt

from dlsia_core.conformal import log_probabilities
from dlsia_core.conformal.left_out import pooled_threshold
from dlsia_core.conformal.quantile import hierarchical_threshold
from dlsia_core.errors import ArrayError
from dlsia_core.segmentation.cuts import ORDERS, Cut, turned_shape
from dlsia_core.segmentation.judged import (
    JudgedPixels,
    calibrated_sets,
    class_scores,
    fewest_blocks,
    left_out_coverage,
    matrix_of,
)
from dlsia_core.segmentation.label_split import LABEL_SETS, split_labels
from dlsia_core.segmentation.learning_tiles import tile_label, windows_with
from dlsia_core.segmentation.windows import Window, windows

SHARES = (0.4, 0.1, 0.5)


def scribbles(shape: tuple[int, ...], seed: int, share: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.integers(0, 2, shape), 255).astype(np.uint8)


@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(40, 90), st.integers(40, 90)),
    seed=st.integers(0, 5),
    guard=st.integers(1, 5),
    share=st.sampled_from([0.05, 1.0]),
    separate=st.booleans(),
)
def test_sets_hold_all_classes_keep_apart_and_hold_labelled_pixels_only(shape, seed, guard, share, separate):
    label = scribbles(shape, seed, share)
    split = split_labels(label, SHARES, guard=guard, seed=seed, separate=separate)
    assert ((split.sets == 255) | (label != 255)).all()
    used = [number for number, name in enumerate(LABEL_SETS) if split.pixels[name]]
    assert used == [0, 1, 2] or split.notes
    for number in used:
        assert set(np.unique(label[split.sets == number])) == {0, 1}
    frames = range(shape[0]) if separate else [slice(None)]
    for frame in frames:
        for number in used:
            here, others = split.sets[frame] == number, np.isin(split.sets[frame], [n for n in used if n != number])
            if here.any() and others.any():
                assert distance_transform_cdt(~here, "chessboard")[others].min() > guard
    blocks = [set(split.unit[split.sets == number]) for number in used]
    assert sum(map(len, blocks)) == len(set.union(*blocks))


def test_the_same_seed_gives_the_same_sets():
    label = scribbles((2, 60, 60), 0, 0.5)
    first, again, other = (split_labels(label, SHARES, guard=2, seed=seed).sets for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_what_few_labels_do_not_allow_is_given_up_and_said():
    label = np.full((1, 40, 40), 255, np.uint8)
    label[0, 2:5, 2:5], label[0, 30:33, 30:33] = 0, 1
    split = split_labels(label, SHARES, guard=2, seed=0)
    assert split.pixels == {"training": 18, "validation": 0, "test": 0}
    assert "all are trained on" in split.notes[0]
    strips = np.full((1, 8, 100), 255, np.uint8)
    strips[0, :2], strips[0, 4:6] = 0, 1
    split = split_labels(strips, SHARES, guard=2, seed=0, block=50)
    assert (split.pixels["validation"], split.pixels["test"] > 0) == (0, True)
    assert "the best epoch is chosen by the training loss" in split.notes[0]


def test_nothing_labelled_is_refused():
    with pytest.raises(ArrayError, match="no pixel is labelled"):
        split_labels(np.full((1, 9, 9), 255, np.uint8), SHARES, guard=1, seed=0)


@pytest.mark.parametrize("order", ORDERS["orthogonal"])
def test_every_pixel_of_a_set_is_learned_once_from_each_side(order):
    label = scribbles((26, 50, 70), 0, 0.3)
    there = split_labels(label, SHARES, guard=2, seed=0).where("training")
    counts = np.zeros(label.shape, int)
    for window in windows_with(
        there.transpose(order), windows(turned_shape(label.shape, order), (1, 24, 24), (0, 4, 4))
    ):
        cut = Cut(window, order)
        tile = tile_label(label, there, cut)
        assert (tile != 255).sum() == (tile[window.inner_in_tile] != 255).sum()
        learned = tile[window.inner_in_tile] != 255
        cut.turned(counts)[window.inner] += learned
        assert (tile[window.inner_in_tile] == cut.turned(label)[window.inner])[learned].all()
    assert (counts == there).all()


@given(st.permutations(range(3)), st.data())
def test_a_cut_is_the_same_before_and_after_its_volume_is_turned(order, data):
    shape = (4, 5, 6)
    volume = np.arange(120).reshape(shape)
    order = tuple(order)
    starts = [data.draw(st.integers(0, size - 1)) for size in turned_shape(shape, order)]
    sides = [data.draw(st.integers(1, 3)) for _ in range(3)]
    outer = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    cut = Cut(Window(outer, outer), order)
    np.testing.assert_array_equal(cut.turned(volume[cut.box]), cut.turned(volume)[outer])


def pixels_of(units: int, per_unit: int, seed: int, noise: float = 1.0) -> JudgedPixels:
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), per_unit)
    truth = (rng.random(len(unit)) < 0.3).astype(np.uint8)
    logit = 3 * (truth - 0.5) + noise * rng.normal(size=len(unit)) + 0.3 * rng.normal(size=units)[unit]
    fore = (1 / (1 + np.exp(-logit))).astype(np.float32)
    both = np.stack([1 - fore, fore], axis=1)
    return JudgedPixels(both, np.zeros_like(both), truth, unit)


def test_scores_are_those_of_the_confusion_matrix():
    pixels = pixels_of(10, 50, 0)
    matrix = matrix_of(pixels)
    rows = class_scores(pixels, ("back", "fore"))
    assert [row["class"] for row in rows] == ["back", "fore", "mean"]
    for number, row in enumerate(rows[:2]):
        hits, there, answered = matrix[number, number], matrix[number].sum(), matrix[:, number].sum()
        assert row["f1"] == pytest.approx(2 * hits / (there + answered))
        assert row["iou"] == pytest.approx(hits / (there + answered - hits))
        assert row["f1_low"] < row["f1"] < row["f1_high"]
        assert (row["pixels"], row["blocks"]) == (there, 10)
    assert rows[2]["f1"] == pytest.approx((rows[0]["f1"] + rows[1]["f1"]) / 2)
    assert rows[2]["pixels"] == 500


def test_scores_of_one_block_have_no_interval():
    row = class_scores(pixels_of(1, 50, 0), ("back", "fore"))[1]
    assert (row["f1_low"], row["f1_high"]) == (None, None)
    assert row["f1"] > 0


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_sets_hold_the_truth_of_each_class_as_often_as_promised_and_as_found(noise):
    shown, new = pixels_of(200, 50, 1, noise), pixels_of(2000, 50, 2, noise)
    found = left_out_coverage(shown, 0.9, ("back", "fore"))
    sets = calibrated_sets(shown, 0.9).sets([log_probabilities(new.probability.T, axis=0)])[0]
    for number, row in enumerate(found["classes"]):
        assert row["low"] < row["coverage"] < row["high"]
        assert row["coverage"] == pytest.approx(sets[number][new.truth == number].mean(), abs=0.02)
        assert 0.88 < row["coverage"] < 0.92
        assert row["blocks"] == 200
    assert sum(found["size_shares"]) == pytest.approx(1)
    assert (found["promised"], found["pixels"], found["blocks"]) == (0.9, 10_000, 200)


@given(st.integers(9, 24), st.integers(0, 3))
def test_each_tenth_leaves_enough_blocks_of_each_class_or_nothing_is_told(units, seed):
    """Of 40 blocks all hold the first class, and `units` the second; 90 % needs nine of them."""
    unit = np.repeat(np.arange(40), 4)
    truth = ((unit < units) & (np.arange(160) % 4 < 2)).astype(np.uint8)
    fore = np.random.default_rng(seed).random(160).astype(np.float32)
    both = np.stack([1 - fore, fore], axis=1)
    found = left_out_coverage(JudgedPixels(both, 0 * both, truth, unit), 0.9, ("back", "fore"), seed)
    assert bool(found) == (units > 9)
    if found:
        assert [row["blocks"] for row in found["classes"]] == [40, units]
        assert fewest_blocks(JudgedPixels(both, 0 * both, truth, unit)) == (1, units)


def test_blocks_with_few_pixels_of_a_class_do_not_widen_its_sets():
    """Units that weigh the same covered 97 % of the pixels where 90 % were promised."""
    rng = np.random.default_rng(0)
    sizes = np.tile([2, 400], 60)
    unit = np.repeat(np.arange(120), sizes)
    # Where a block has two pixels of the class they lie at a border, and are five times as strange.
    strange = rng.exponential(size=(2, len(unit))) * np.where(sizes[unit] == 2, 5, 1)
    shown, new = strange
    pooled, by_unit = (rule(shown, unit, 0.9) for rule in (pooled_threshold, hierarchical_threshold))
    assert (new <= pooled.value).mean() == pytest.approx(0.9, abs=0.01)
    assert (new <= by_unit.value).mean() > 0.97


def test_a_pooled_threshold_covers_what_is_left_out_as_often_as_promised():
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(20), 50)
    scores = rng.exponential(size=1000) + rng.exponential(size=20)[unit]
    level_of_all = (scores <= pooled_threshold(scores, unit, 0.9).value).mean()
    covered = [(scores[unit == u] <= np.quantile(scores[unit != u], level_of_all)).mean() for u in range(20)]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert pooled_threshold(scores[:400], unit[:400], 0.9).value == np.inf  # eight units
