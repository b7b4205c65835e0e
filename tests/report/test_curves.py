"""Loss curves: log axis, units, best epoch; a loss that a log axis cannot show is not hidden."""

import pytest

from dlsia_core.errors import SettingError
from tasks.report.content import LossCurve
from tasks.report.curves import DARK, LIGHT, curve_png, curve_section


def test_curve_is_said_in_words_too():
    section = curve_section(LossCurve("TUNet", [0.3, 0.2], [0.4, 0.25], 1, "L1 in normalized log counts"))
    words = (
        "2 epochs of training, best validation loss 0.25 (L1 in normalized log counts) at epoch 2, logarithmic axis."
    )
    assert section.count(words) == 2, "as caption and as alternative text"


def test_losses_that_do_not_fit_a_log_axis_get_a_linear_one_and_it_is_said():
    section = curve_section(LossCurve("likelihood", [0.3, -0.2], [], 1, "nats"))
    assert "linear axis, since a loss is zero or negative" in section
    assert "best training loss -0.2 (nats) at epoch 2" in section
    assert "no validation losses" in section


def test_best_epoch_and_axis_change_the_picture():
    losses = [0.3, 0.2, 0.1, 0.15]
    plain = curve_png(LossCurve("c", losses, losses, None, "L1"), LIGHT)
    assert plain == curve_png(LossCurve("c", losses, losses, None, "L1"), LIGHT)
    assert plain != curve_png(LossCurve("c", losses, losses, 2, "L1"), LIGHT)
    assert plain != curve_png(LossCurve("c", losses, losses, None, "L2"), LIGHT)
    assert plain != curve_png(LossCurve("c", losses, losses, None, "L1"), DARK)


@pytest.mark.parametrize("losses", [[1e-9, 1.0], [0.5, 0.5], [0.10, 0.101], [0.3]])
def test_every_range_of_losses_can_be_drawn(losses):
    assert curve_png(LossCurve("c", losses, losses, 0, "L1"), LIGHT).startswith(b"\x89PNG")


@pytest.mark.parametrize("best", [-1, 2])
def test_best_epoch_outside_the_training_is_refused(best):
    with pytest.raises(SettingError, match=rf"best epoch of 'c' is {best}; it must be in \[0, 1\]"):
        LossCurve("c", [1.0, 2.0], [], best, "L1")
