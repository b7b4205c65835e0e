"""Splits: disjoint, complete, in exact numbers; no pixel of one set within the guard of another set's."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.splits import (
    EXCLUDED,
    class_weights,
    in_set,
    labels_in_set,
    set_sizes,
    split_blocks,
    split_groups,
    split_items,
)

FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.4, 0.0), (0.34, 0.33, 0.33)])


def smallest_distance(split: np.ndarray) -> float:
    """Largest of the axes' distances between any two pixels of different sets, the smallest over all pairs."""
    places = np.argwhere(split != EXCLUDED)
    sets = split[split != EXCLUDED]
    apart = np.abs(places[:, None] - places[None]).max(axis=-1)
    return np.where(sets[:, None] != sets[None], apart, np.inf).min()


@given(count=st.integers(3, 300), fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1))
def test_items_are_split_disjoint_complete_and_in_exact_numbers(count: int, fractions, seed: int) -> None:
    split = split_items(count, fractions, seed=seed)
    parts = [split.training, split.validation, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    sizes = tuple(len(part) for part in parts)
    assert sizes == set_sizes(count, fractions)
    for size, fraction in zip(sizes, fractions, strict=True):
        assert (size > 0) == (fraction > 0)
        assert abs(size - count * fraction) < 1 or count < 30
    again = split_items(count, fractions, seed=seed)
    assert np.array_equal(split.training, again.training)


def test_another_seed_gives_another_split() -> None:
    assert not np.array_equal(*(split_items(50, (0.5, 0.3, 0.2), seed=s).training for s in (0, 1)))


@given(
    groups=st.lists(st.integers(0, 12), min_size=3, max_size=60), fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1)
)
def test_a_group_is_never_torn_apart(groups: list[int], fractions, seed: int) -> None:
    assume(len(set(groups)) >= 3)
    split = split_groups(groups, fractions, seed=seed)
    parts = [split.training, split.validation, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    held = [{groups[i] for i in part} for part in parts]
    assert sum(map(len, held)) == len(set(groups))
    assert [len(part) > 0 for part in parts] == [fraction > 0 for fraction in fractions]


def test_group_sizes_follow_the_fractions() -> None:
    split = split_groups(np.repeat(np.arange(40), 25), (0.7, 0.2, 0.1), seed=0)
    assert (len(split.training), len(split.validation), len(split.test)) == (700, 200, 100)
    uneven = split_groups(np.repeat(np.arange(30), np.arange(1, 31)), (0.7, 0.2, 0.1), seed=0)
    shares = np.array([len(uneven.training), len(uneven.validation), len(uneven.test)]) / 465
    assert np.abs(shares - [0.7, 0.2, 0.1]).max() < 0.005  # a single order mostly misses by 0.006 to 0.03


def test_impossible_splits_of_items_are_refused() -> None:
    with pytest.raises(ArrayError, match="2 items cannot fill 3 sets"):
        split_items(2, (0.8, 0.1, 0.1), seed=0)
    with pytest.raises(ArrayError, match="cannot fill"):
        split_groups(["a"] * 100, (0.8, 0.1, 0.1), seed=0)
    for fractions in ((0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (0.5, 0.5)):
        with pytest.raises(SettingError, match="fractions are"):
            split_items(10, fractions, seed=0)


@given(
    shape=st.sampled_from([(19, 23), (30, 12), (12, 13, 11)]),
    block=st.integers(3, 7),
    guard=st.integers(0, 4),
    fractions=FRACTIONS,
    seed=st.integers(0, 2**32 - 1),
)
def test_sets_of_pixels_are_further_apart_than_the_guard(shape, block: int, guard: int, fractions, seed: int) -> None:
    assume(block > 2 * -(-guard // 2))
    assume(np.prod([size // block for size in shape]) >= 3)
    split = split_blocks(shape, (block,) * len(shape), fractions, guard=guard, seed=seed)
    assert split.shape == shape
    assert smallest_distance(split) > guard
    assert set(np.unique(split)) <= {0, 1, 2, EXCLUDED}
    if guard == 0:
        assert EXCLUDED not in split


def test_no_test_pixel_touches_a_training_pixel() -> None:
    """Drawn pixel by pixel, 93.5 % of the test pixels touch a training pixel."""
    split = split_blocks((96, 96), (16, 16), (0.8, 0.1, 0.1), guard=1, seed=0)
    training, test = in_set(split, "training"), in_set(split, "test")
    around = np.zeros_like(training)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            around |= np.roll(np.pad(training, 1), (dy, dx), axis=(0, 1))[1:-1, 1:-1]
    assert test.any()
    assert not (around & test).any()


def test_no_more_is_given_up_than_the_guard_needs() -> None:
    """Two blocks side by side, guard 6: three columns on each side, and none at the frame's edge."""
    split = split_blocks((10, 40), (10, 20), (0.5, 0.5, 0.0), guard=6, seed=0)
    assert (split[:, 17:23] == EXCLUDED).all()
    assert (split[:, :17] == split[0, 0]).all()
    assert (split[:, 23:] == split[0, -1]).all()


def test_blocks_come_in_the_numbers_asked_for_and_no_smaller() -> None:
    split = split_blocks((103, 57), (10, 10), (0.6, 0.2, 0.2), guard=0, seed=3)
    ones = split_blocks((103, 57), (10, 10), (0.6, 0.2, 0.2), guard=0, seed=3)
    assert np.array_equal(split, ones)
    assert np.abs(np.bincount(split.ravel()) / split.size - [0.6, 0.2, 0.2]).max() < 0.02
    # Every run of one set along a row or column is at least a block long.
    for line in [*split, *split.T]:
        edges = np.flatnonzero(np.diff(line)) + 1
        assert np.diff([0, *edges, len(line)]).min() >= 10


def test_a_stack_has_the_same_blocks_in_every_frame_unless_asked() -> None:
    settings = {"block_shape": (8, 8), "fractions": (0.5, 0.25, 0.25), "guard": 2, "seed": 0}
    together = split_blocks((4, 32, 32), **settings)
    assert (together == together[0]).all()
    apart = split_blocks((4, 32, 32), **settings, per_frame=True)
    assert not (apart == apart[0]).all()
    for frame in apart:
        assert smallest_distance(frame) > 2
    volumes = split_blocks((2, 9, 16, 16), (9, 8, 8), (0.5, 0.25, 0.25), guard=2, seed=0)
    assert (volumes[0] == volumes[1]).all()


@pytest.mark.parametrize("per_frame", [False, True])
def test_each_class_is_in_each_set_even_when_rare(per_frame: bool) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        label = np.full((2, 60, 60), 255, np.uint8)
        label[0, rng.integers(0, 60, 300), rng.integers(0, 60, 300)] = 0
        for block in rng.permutation(36)[:4]:
            y, x = 10 * (block // 6), 10 * (block % 6)
            label[0, y : y + 10, x : x + 10] = 7
        split = split_blocks(
            (2, 60, 60), (10, 10), (0.8, 0.1, 0.1), guard=3, seed=seed, label=label, per_frame=per_frame
        )
        for name in ("training", "validation", "test"):
            assert {0, 7} <= set(np.unique(labels_in_set(label, split, name)).tolist())


def test_a_class_that_cannot_be_everywhere_is_named() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[2:18, 2:8] = 3
    with pytest.raises(ArrayError, match="class 3 is in 2 blocks and cannot be in each of 3 sets"):
        split_blocks((40, 40), (10, 10), (0.6, 0.2, 0.2), guard=0, seed=0, label=label)
    near = np.zeros((40, 20), np.uint8)
    near[[15, 25], 5] = 5  # in both blocks, but each within the guard of the other
    assert set(split_blocks((40, 20), (20, 20), (0.5, 0.5, 0.0), guard=8, seed=0, label=near)[near == 5]) == {0, 1}
    with pytest.raises(ArrayError, match=r"class 5 has no pixel in the training set in any of 50 draws"):
        split_blocks((40, 20), (20, 20), (0.5, 0.5, 0.0), guard=12, seed=0, label=near)


def test_labels_outside_the_set_are_ignored() -> None:
    label = np.arange(36, dtype=np.int16).reshape(6, 6)
    split = split_blocks((6, 6), (3, 3), (0.5, 0.25, 0.25), guard=0, seed=0)
    kept = labels_in_set(label, split, "training", ignore_index=-1)
    assert kept.dtype == np.int16
    assert np.array_equal(kept[split == 0], label[split == 0])
    assert (kept[split != 0] == -1).all()
    with pytest.raises(ArrayError, match="int8 cannot hold 255"):
        labels_in_set(label.astype(np.int8), split, "test")
    with pytest.raises(SettingError, match="'train' is no set; known are training, validation, test"):
        in_set(split, "train")


def test_blocks_that_do_not_fit_are_refused() -> None:
    for shape, block, guard in (
        ((20, 20), (5, 5), 5),
        ((20, 20), (25, 5), 0),
        ((20, 20), (4, 4), 3),
        ((20, 20), (0, 4), 0),
    ):
        with pytest.raises(SettingError, match="block_shape is"):
            split_blocks(shape, block, (0.5, 0.25, 0.25), guard=guard, seed=0)
    with pytest.raises(SettingError, match="wanted a block with 2 or 3 axes"):
        split_blocks((20,), (5,), (0.5, 0.25, 0.25), guard=0, seed=0)
    with pytest.raises(ArrayError, match="cannot fill 3 sets"):
        split_blocks((20, 20), (20, 10), (0.5, 0.25, 0.25), guard=0, seed=0)


def test_inverse_class_weights_are_scikit_learns() -> None:
    label = np.random.default_rng(0).choice([0, 1, 2, 255], p=[0.6, 0.1, 0.05, 0.25], size=(3, 20, 20)).astype(np.uint8)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=label[label != 255])
    np.testing.assert_allclose(class_weights(label, 3), wanted, rtol=1e-6)


def test_effective_and_median_class_weights_by_hand() -> None:
    label = np.array([[0, 0, 0, 1], [0, 0, 0, 0], [2, 2, 0, 255]], np.uint8)
    # 1 - 0.5^n for n = 8, 1, 2 is 255/256, 1/2, 3/4.
    raw = 0.5 / np.array([255 / 256, 0.5, 0.75])
    np.testing.assert_allclose(class_weights(label, 3, "effective", beta=0.5), raw * 3 / raw.sum(), rtol=1e-6)
    np.testing.assert_allclose(class_weights(label, 3, "effective", beta=0), 1)
    # Class 0: 8 of 11 pixels; class 1: 1 of the 4 of its frame; class 2: 2 of 3; the median is 2/3.
    np.testing.assert_allclose(class_weights(label, 3, "median"), (2 / 3) / np.array([8 / 11, 1 / 4, 2 / 3]), rtol=1e-6)


def test_a_missing_or_strange_class_is_named() -> None:
    with pytest.raises(ArrayError, match="class 1, 3 has no labelled pixel"):
        class_weights(np.array([[0, 2, 255]], np.uint8), 4)
    with pytest.raises(ArrayError, match="label holds 2; allowed are 0"):
        class_weights(np.array([[0, 2]], np.uint8), 2)
    with pytest.raises(SettingError, match="known are inverse, effective, median"):
        class_weights(np.array([[0, 1]]), 2, "balanced")
