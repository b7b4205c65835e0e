"""The median rule: hand-computed cases, and that it looks at nothing but what it was allowed to see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.errors import SettingError
from dlsia_core.training.median_stop import Course, MedianRule

LOSSES = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8)


def test_hand_computed():
    others = [Course([4.0, 2.0, 1.0]), Course([5.0, 3.0, 2.0]), Course([6.0, 4.0, 3.0])]
    rule = MedianRule((2,), margin=1.25, least=3)
    assert rule.judge([9.0, 3.75], others) is None  # exactly 1.25 times the median 3
    stop = rule.judge([9.0, 3.76, 0.1], others)
    assert stop is not None
    assert (stop.epoch, stop.loss, stop.median, stop.n_others) == (2, 3.76, 3.0, 3)
    assert rule.judge([9.0], others) is None
    assert rule.judge([9.0, 9.0], others[:2]) is None


def test_members_that_were_stopped_before_the_epoch_do_not_count_and_ended_ones_do():
    others = [Course([1.0, 1.0]), Course([1.0]), Course([8.0], ended=False)]
    rule = MedianRule((2,), margin=1.0, least=2)
    stop = rule.judge([2.0, 2.0], others)
    assert stop is not None
    assert (stop.median, stop.n_others) == (1.0, 2)
    assert MedianRule((2,), margin=1.0, least=3).judge([2.0, 2.0], others) is None


@given(LOSSES, st.lists(LOSSES, min_size=1, max_size=5), st.sets(st.integers(1, 8)))
def test_what_comes_after_a_stop_changes_nothing(losses, others, epochs):
    rule = MedianRule(tuple(epochs), least=1)
    courses = [Course(other) for other in others]
    stop = rule.judge(losses, courses)
    if stop is not None:
        assert rule.judge(losses[: stop.epoch], courses) == stop
        assert rule.judge([*losses[: stop.epoch], 0.0, 0.0], courses) == stop
        assert stop.epoch in epochs


@given(LOSSES, st.sets(st.integers(1, 8)))
def test_a_member_like_the_others_is_never_stopped(losses, epochs):
    assert MedianRule(tuple(epochs), least=1).judge(losses, [Course(losses)] * 3) is None


def test_settings_are_checked():
    for wrong in ({"epochs": (0,)}, {"margin": 0.9}, {"least": 0}):
        with pytest.raises(SettingError, match="wanted at least 1 each"):
            MedianRule(**wrong)
