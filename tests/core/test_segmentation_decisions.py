"""A class is taken only where the members agree; sets survive their packing; layers hold every window once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.segmentation import layers, layers_of, pack_sets, set_dtype, sure_label, unpack_sets, windows


def test_the_rule_of_the_paper_by_hand():
    mean = np.array([[0.2, 0.45, 0.35, 0.9], [0.8, 0.55, 0.65, 0.1]])
    std = np.array([[0.1, 0.01, 0.15, 0.0], [0.1, 0.01, 0.15, 0.0]])
    # 0.7, 0.54, 0.5 (which does not exceed 0.5 but for rounding) and 0.1
    assert sure_label(mean, std)[[0, 1, 3]].tolist() == [1, 1, 0]
    assert sure_label(mean, std, k=2).tolist() == [1, 1, 0, 0]
    assert sure_label(mean, std, k=6).tolist() == [0, 0, 0, 0]
    assert sure_label(mean, std, k=0, threshold=0.6).tolist() == [1, 0, 1, 0]


def test_the_background_is_what_is_left_whatever_its_number():
    mean = np.array([[0.6, 0.1], [0.3, 0.1], [0.1, 0.8]])
    std = np.zeros_like(mean)
    assert sure_label(mean, std, background=2).tolist() == [0, 2]
    assert sure_label(mean, std, threshold=0.2, background=0).tolist() == [1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_without_spread_and_at_one_half_the_rule_is_the_majority(seed, classes):
    mean = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=40).T
    label = sure_label(mean, np.zeros_like(mean))
    sure = mean.astype(np.float32).max(axis=0) > 0.5
    assert (label[sure] == mean.argmax(axis=0)[sure]).all()
    assert not label[~sure].any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 32))
def test_sets_come_back_from_their_bits(seed, classes):
    sets = np.random.default_rng(seed).random((classes, 3, 4)) < 0.5
    packed = pack_sets(sets)
    assert packed.dtype == set_dtype(classes)
    np.testing.assert_array_equal(unpack_sets(packed, classes), sets)


@given(st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)), st.integers(5, 12), st.integers(0, 2))
def test_layers_hold_every_window_once_and_answer_for_every_slice_once(shape, tile, margin):
    found = windows(shape, (tile, 4, 5), (margin, 1, 1))
    by_layer = layers(found)
    assert [window for layer in by_layer for window in layer.windows] == found
    covered = [number for layer in by_layer for number in range(layer.inner.start, layer.inner.stop)]
    assert covered == list(range(shape[0]))
    for start in range(shape[0]):
        (layer,) = layers_of(by_layer, start, start + 1)
        assert layer.inner.start <= start < layer.inner.stop


def test_what_makes_no_sense_is_refused():
    mean = np.full((2, 3), 0.5)
    with pytest.raises(SettingError, match=r"k is -1; it must be 0 or more"):
        sure_label(mean, mean, k=-1)
    with pytest.raises(SettingError, match="threshold is 1"):
        sure_label(mean, mean, threshold=1)
    with pytest.raises(SettingError, match="background is 2; it must be the number of a class, 0 to 1"):
        sure_label(mean, mean, background=2)
    with pytest.raises(ArrayError, match=r"mean is \(2, 3\) and std \(2, 2\)"):
        sure_label(mean, mean[:, :2])
    with pytest.raises(SettingError, match="33 classes do not fit"):
        pack_sets(np.zeros((33, 1), bool))
