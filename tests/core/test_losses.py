"""Losses: against hand-computed numbers and independent formulas, in all precisions, on nothing at all."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss
from torch import Tensor
from torch.nn import functional as F

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.losses import (
    CrossEntropy,
    Dice,
    DiceCrossEntropy,
    Focal,
    FocalTversky,
    Loss,
    TotalVariation,
    Tversky,
    WeightedSum,
    loss_name,
    sees_whole_batch,
    weighted_l1,
    weighted_l2,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SEGMENTATION: list[Callable[..., Loss]] = [CrossEntropy, Dice, DiceCrossEntropy, Focal, FocalTversky, Tversky]
PIXELWISE = [CrossEntropy, Focal]
REGRESSION = [weighted_l1, weighted_l2, TotalVariation()]


def labeled(channels: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels of which a fifth is ignored, and weights from 0 to 2 for two images of 5 x 4 px."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, channels, 5, 4, generator=generator, dtype=dtype)
    labels = torch.randint(max(2, channels), (2, 5, 4), generator=generator)
    labels[torch.rand(2, 5, 4, generator=generator) < 0.2] = 255
    weight = 2 * torch.rand(2, 5, 4, generator=generator, dtype=dtype)
    return logits, labels, weight


def likely(*probabilities: float) -> Tensor:
    """One channel of logits for one row of pixels."""
    return torch.tensor(probabilities, dtype=torch.float64).logit().reshape(1, 1, 1, -1)


def row(*values: int) -> Tensor:
    return torch.tensor(values).reshape(1, 1, -1)


def ones(count: int) -> Tensor:
    return torch.ones(1, 1, count)


def test_focal_loss_weighs_each_pixel_by_itself() -> None:
    """In dlsia the focal factor was that of the mean over the batch: 0.59 here, as if no pixel stood out.

    -log 0.9 = 0.10536 and -log 0.1 = 2.30259: (0.1² · 0.10536 + 0.9² · 2.30259) / 2 = 0.93307. The mean of both costs
    is 1.20397 = -log 0.3, and (1 - 0.3)² · 1.20397 = 0.58995.
    """
    value = Focal(gamma=2.0)(likely(0.9, 0.9), row(1, 0), ones(2))
    assert value == pytest.approx(0.93307, abs=1e-5)
    mean = CrossEntropy()(likely(0.9, 0.9), row(1, 0), ones(2))
    assert (1 - math.exp(-mean)) ** 2 * mean == pytest.approx(0.58995, abs=1e-5), "what it must not be"


def test_class_weights_are_lins_alpha() -> None:
    """alpha = 0.25 for class 1, 0.75 for class 0 (Lin et al. 2017, eq. 5), two pixels of probability 0.5."""
    value = Focal(2.0, class_weights=(0.75, 0.25))(likely(0.5, 0.5), row(1, 0), ones(2))
    assert value == pytest.approx((0.25 + 0.75) / 2 * 0.25 * math.log(2))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_cross_entropy_is_that_of_torch_and_sklearn(channels: int) -> None:
    logits, labels, _ = labeled(channels)
    counted = labels != 255
    ours = CrossEntropy()(logits, labels, torch.ones_like(logits[:, 0]))
    if channels == 1:
        theirs = F.binary_cross_entropy_with_logits(logits[:, 0][counted], labels[counted].double())
        probabilities = torch.stack([1 - logits[:, 0].sigmoid(), logits[:, 0].sigmoid()], 1)
    else:
        theirs = F.cross_entropy(logits, labels, ignore_index=255)
        probabilities = logits.softmax(1)
    assert ours == pytest.approx(float(theirs), rel=1e-12)
    chosen = probabilities.movedim(1, -1)[counted].numpy()
    expected = log_loss(labels[counted].numpy(), chosen, labels=range(probabilities.shape[1]))
    assert ours == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_its_formula_in_numpy(channels: int, gamma: float) -> None:
    logits, labels, weight = labeled(channels, seed=1)
    weights = np.arange(1.0, max(2, channels) + 1)
    z = logits.movedim(1, -1).numpy()
    p = np.concatenate([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], -1) if channels == 1 else None
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True) if p is None else p
    total = count = 0.0
    for place in np.ndindex(labels.shape):
        if labels[place] != 255:
            true = p[place][labels[place]]
            total += float(weight[place]) * weights[labels[place]] * (1 - true) ** gamma * -np.log(true)
            count += float(weight[place])
    ours = Focal(gamma, tuple(weights))(logits, labels, weight)
    assert ours == pytest.approx(total / count, rel=1e-10)


def test_dice_and_tversky_by_hand() -> None:
    """TP = 0.9 + 0.6 = 1.5, FP = 0.2, FN = 0.1 + 0.4 = 0.5."""
    arguments = likely(0.9, 0.6, 0.2), row(1, 1, 0), ones(3)
    assert Dice(smooth=0)(*arguments) == pytest.approx(1 - 3.0 / 3.7)
    assert Dice(smooth=1)(*arguments) == pytest.approx(1 - 4.0 / 4.7)
    assert Tversky(0.3, 0.7, smooth=1)(*arguments) == pytest.approx(1 - 2.5 / (2.5 + 0.06 + 0.35))
    tversky = 1 - 1.5 / (1.5 + 0.06 + 0.35)
    assert FocalTversky(0.75, 0.3, 0.7, smooth=0)(*arguments) == pytest.approx(tversky**0.75)


def test_dice_of_certain_answers_is_one_minus_f1() -> None:
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(3, size=(2, 4, 6)), rng.integers(3, size=(2, 4, 6))
    logits = 200.0 * F.one_hot(torch.from_numpy(answers), 3).movedim(-1, 1).double()
    expected = 1 - f1_score(labels.ravel(), answers.ravel(), average=None)
    weight = torch.ones(labels.shape)
    assert Dice(smooth=0)(logits, torch.from_numpy(labels), weight) == pytest.approx(expected.mean(), rel=1e-6)
    weighted = Dice(smooth=0, class_weights=(0, 1, 3))(logits, torch.from_numpy(labels), weight)
    assert weighted == pytest.approx((expected[1] + 3 * expected[2]) / 4, rel=1e-6)


@pytest.mark.parametrize("kind", [CrossEntropy, Dice, Focal, FocalTversky, Tversky])
def test_one_channel_and_two_agree_where_they_mean_the_same(kind: Callable[..., Loss]) -> None:
    """A logit z of class 1 is the pair (0, z); region losses then look at class 1 alone."""
    logits, labels, weight = labeled(1)
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    whole = kind()
    two = whole if kind in PIXELWISE else kind(class_weights=(0.0, 1.0))
    assert whole(logits, labels, weight) == pytest.approx(float(two(pair, labels, weight)), rel=1e-12)


def test_dice_cross_entropy_is_their_sum() -> None:
    arguments = labeled(3)
    expected = 0.5 * Dice()(*arguments) + 2 * CrossEntropy((1, 2, 3))(*arguments)
    ours = DiceCrossEntropy(0.5, 2.0, cross_entropy_weights=(1, 2, 3))
    assert ours(*arguments) == pytest.approx(float(expected))


def test_total_variation_by_hand_in_two_and_three_dimensions() -> None:
    image = torch.tensor([[0.0, 1.0], [3.0, 7.0]]).reshape(1, 1, 2, 2)  # |1| + |4| across, |3| + |6| down
    assert TotalVariation()(image, image, torch.ones_like(image)) == 14 / 4
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
    assert TotalVariation()(image, image, weight) == 4 / 3, "pairs with the corner do not count"
    volume = image[:, :, None].repeat(1, 1, 3, 1, 1)
    assert TotalVariation()(volume, volume, torch.ones_like(volume)) == 14 / 4, "nothing changes along z"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", SEGMENTATION)
def test_gradients_of_segmentation_losses(kind: Callable[..., Loss], channels: int) -> None:
    logits, labels, weight = (values[..., :3, :2] for values in labeled(channels))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: kind()(values, labels, weight), logits)


@pytest.mark.parametrize("loss", REGRESSION)
def test_gradients_of_regression_losses(loss: Loss) -> None:
    prediction, _, weight = labeled(1)
    target = labeled(1, seed=1)[0]
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss(values, target, weight[:, None]), prediction)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", SEGMENTATION)
@pytest.mark.parametrize("nothing", ["ignored", "no weight"])
def test_where_nothing_is_valid_the_loss_is_zero_and_teaches_nothing(
    kind: Callable[..., Loss], channels: int, nothing: str
) -> None:
    """In dlsia a masked loss was NaN on an empty mask, and so were then all weights."""
    logits, labels, weight = labeled(channels, dtype=torch.float32)
    logits.requires_grad_()
    labels, weight = (torch.full_like(labels, 255), weight) if nothing == "ignored" else (labels, 0 * weight)
    for loss in (kind(), kind(smooth=0.0) if "smooth" in repr(kind()) else kind()):
        value = loss(logits, labels, weight)
        value.backward()
        assert value == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("loss", REGRESSION)
def test_a_regression_loss_of_nothing_is_zero(loss: Loss) -> None:
    prediction = torch.randn(1, 1, 3, 3, requires_grad=True)
    value = loss(prediction, torch.full((1, 1, 3, 3), math.nan), torch.zeros(1, 1, 3, 3))
    value.backward()
    assert value == 0
    assert not prediction.grad.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", SEGMENTATION)
def test_certain_answers_give_finite_losses_and_gradients(kind: Callable[..., Loss], channels: int) -> None:
    """Right or wrong by a logit of 1000: probabilities are 0 and 1, and log 0 and 0^(-1/4) lie near."""
    labels = torch.zeros(2, 2, 2, dtype=torch.long)
    for sign in (-1, 1):
        logits = torch.full((2, channels, 2, 2), 1000.0 * sign)
        logits[:, 1:] = 0
        logits.requires_grad_()
        value = kind()(logits, labels, torch.ones(2, 2, 2))
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", SEGMENTATION)
def test_half_precision_is_summed_in_full(kind: Callable[..., Loss]) -> None:
    """600 x 600 px of probability 0.5 sum to 180,000: infinite in float16, and 180,224 in bfloat16."""
    logits = torch.zeros(1, 1, 600, 600)
    labels, weight = torch.arange(360_000).reshape(1, 600, 600) % 2, torch.ones(1, 600, 600)
    expected = kind()(logits, labels, weight)
    for dtype in (torch.float16, torch.bfloat16):
        value = kind()(logits.to(dtype), labels, weight.to(dtype))
        assert value.dtype == torch.float32
        assert value == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("kind", [*SEGMENTATION, lambda: weighted_l1, lambda: weighted_l2, TotalVariation])
def test_autocast_changes_nothing(kind: Callable[..., Loss]) -> None:
    logits, labels, weight = labeled(1, dtype=torch.float32)
    regression = kind not in SEGMENTATION
    arguments = (logits, logits + 1.25, weight[:, None]) if regression else (logits, labels, weight)
    expected = kind()(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = kind()(*arguments)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", SEGMENTATION)
def test_ignored_pixels_do_not_matter(kind: Callable[..., Loss], channels: int) -> None:
    logits, labels, weight = labeled(channels)
    other = torch.where(labels[:, None] == 255, 50.0, logits)
    assert torch.equal(kind()(logits, labels, weight), kind()(other, labels, weight))
    cleared = torch.where(labels == 255, 0, labels)
    assert torch.equal(kind()(logits, labels, weight), kind()(logits, cleared, torch.where(labels == 255, 0, weight)))
    renamed = torch.where(labels == 255, -1, labels)
    assert torch.equal(kind()(logits, labels, weight), kind(ignore_index=-1)(logits, renamed, weight))


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 4))
@pytest.mark.parametrize("kind", PIXELWISE)
def test_a_loss_that_is_a_mean_over_pixels_adds_up_over_any_cut(kind: Callable[..., Loss], seed: int, cut: int) -> None:
    logits, labels, weight = labeled(3, seed=seed)
    weight = torch.where(labels == 255, 0, weight)
    loss = kind(class_weights=(1.0, 2.0, 5.0))
    assert not sees_whole_batch(loss)
    halves = [(logits[..., :cut, :], labels[..., :cut, :], weight[..., :cut, :])]
    halves += [(logits[..., cut:, :], labels[..., cut:, :], weight[..., cut:, :])]
    total = sum(float(loss(*half)) * float(half[2].sum()) for half in halves)
    assert total / float(weight.sum()) == pytest.approx(float(loss(logits, labels, weight)), rel=1e-9)


@pytest.mark.parametrize("kind", SEGMENTATION)
@pytest.mark.parametrize(
    ("channels", "label", "message"),
    [
        (1, -1, r"labels hold \[-1\]; wanted 0 to 1 for logits of 1 channels, or ignore_index = 255"),
        (1, 2, r"labels hold \[2\]; wanted 0 to 1"),
        (3, 3, r"labels hold \[3\]; wanted 0 to 2 for logits of 3 channels"),
    ],
)
def test_labels_that_are_no_class_are_refused(
    kind: Callable[..., Loss], channels: int, label: int, message: str
) -> None:
    """In dlsia the label -1 gave nonsense without a word."""
    logits, labels, weight = labeled(channels)
    labels[0, 0, 0] = label
    with pytest.raises(ArrayError, match=message):
        kind()(logits, labels, weight)


@pytest.mark.parametrize("kind", SEGMENTATION)
def test_shapes_and_types_that_do_not_fit_are_refused(kind: Callable[..., Loss]) -> None:
    logits, labels, weight = labeled(3)
    with pytest.raises(ArrayError, match=r"labels \(2, 1, 5, 4\).*wanted \(example, class, ...\)"):
        kind()(logits, labels[:, None], weight)
    with pytest.raises(ArrayError, match=r"weight \(2, 5\)"):
        kind()(logits, labels, weight[..., 0])
    with pytest.raises(ArrayError, match=r"labels are torch\.float64; wanted an integer type"):
        kind()(logits, labels.double(), weight)


def test_regression_losses_refuse_to_broadcast() -> None:
    with pytest.raises(ArrayError, match=r"shapes \[\(2, 1, 3\), \(2, 3\), \(2, 3\)\]; wanted the same"):
        weighted_l1(torch.zeros(2, 1, 3), torch.zeros(2, 3), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Focal(gamma=-1.0), "gamma is -1.0; it must be at least 0"),
        (lambda: FocalTversky(gamma=0.0), "gamma is 0.0; it must be greater than 0"),
        (lambda: Tversky(alpha=-0.1), "alpha is -0.1"),
        (lambda: Tversky(0.0, 0.0), "nothing would cost anything"),
        (lambda: Dice(smooth=-1.0), "smooth is"),
        (lambda: CrossEntropy((0.0, 0.0)), "not all of them 0"),
        (lambda: CrossEntropy((1.0, -1.0)), "at least 0"),
        (lambda: CrossEntropy((1.0, 1.0))(*labeled(3)), "the logits ask for 3 weights"),
        (lambda: Dice(class_weights=(1.0, 1.0))(*labeled(1)), "the logits ask for 1 weights"),
        (lambda: WeightedSum((weighted_l1,), (1.0, 2.0)), "1 losses and 2 factors"),
        (lambda: WeightedSum((weighted_l1,), (-1.0,)), "each must be at least 0"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


def test_names_tell_losses_apart() -> None:
    assert loss_name(Focal(1.5)) != loss_name(Focal(2.0))
    assert loss_name(WeightedSum((weighted_l1,), (1.0,))) != loss_name(WeightedSum((weighted_l2,), (1.0,)))
    assert sees_whole_batch(WeightedSum((CrossEntropy(), Dice()), (1.0, 1.0)))
    with pytest.raises(SettingError, match="a function of a module"):
        loss_name(WeightedSum((lambda prediction, *_: prediction.sum(),), (1.0,)))


def test_labels_may_be_of_any_integer_type() -> None:
    """Labels of 8 bits, as they are stored, are taken as they are."""
    logits, labels, weight = labeled(3)
    assert torch.equal(Focal()(logits, labels.to(torch.uint8), weight), Focal()(logits, labels, weight))
