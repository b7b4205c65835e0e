"""Sets of classes hold the true class as often as promised: few frames, saturated logits, rare classes, any layout."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlsia_core.conformal import (
    SetCalibration,
    SetSettings,
    Threshold,
    calibrate_sets,
    class_scores,
    label_from_one_hot,
    log_probabilities,
    measure_sets,
)
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.networks import build_network, load_network, save_network


def draw(rng: np.random.Generator, frames: int, pixels: int, classes: int = 4, sharpness: float = 3.0) -> tuple:
    """Independent pixels with logits that are too sure of themselves: the truth is drawn from softer ones."""
    logits = rng.normal(size=(frames, classes, pixels))
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return (sharpness * logits).astype(np.float32), truth.astype(np.uint8)


def covered(sets: np.ndarray, label: np.ndarray) -> float:
    return float(np.take_along_axis(sets, label[:, None].astype(int), axis=1).mean())


@pytest.mark.parametrize("n", [5, 20, 1000])
@pytest.mark.parametrize("settings", [{"method": "threshold"}, {"method": "adaptive", "randomized": True}])
def test_coverage_is_what_the_theorem_says(n: int, settings: dict) -> None:
    """Over calibrations the coverage follows Beta(k, n + 1 - k), k = ceil((n + 1) 0.8), of mean k / (n + 1)."""
    seeds = 150 if n < 1000 else 60
    k = math.ceil((n + 1) * 0.8)
    measured = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        logits, label = draw(rng, n, 1)
        calibration = calibrate_sets(logits, label, SetSettings(coverage=0.8, nonempty=False, seed=seed, **settings))
        new_logits, new_label = draw(rng, 1, 2000)
        measured.append(covered(calibration.sets(new_logits), new_label))
    mean, variance = k / (n + 1), k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2))
    sampling = mean * (1 - mean) / 2000
    assert np.mean(measured) == pytest.approx(mean, abs=3.5 * math.sqrt((variance + sampling) / seeds))
    assert np.std(measured) == pytest.approx(math.sqrt(variance + sampling), rel=0.35)


@pytest.mark.parametrize("method", ["threshold", "adaptive"])
def test_small_n_gives_everything_and_says_so(method: str, caplog) -> None:
    logits, label = draw(np.random.default_rng(0), 5, 30)
    calibration = calibrate_sets(logits, label, SetSettings(coverage=0.9, method=method))
    assert calibration.sets(logits).all()
    assert "150 pixels of 5 units, fewer than the 9 units this needs, so every class is in every set" in caplog.text
    assert calibration.statement in caplog.text
    nothing = calibrate_sets(logits, np.full_like(label, 255), SetSettings())
    assert nothing.thresholds == (Threshold(math.inf, 0, 0),)
    assert nothing.sets(logits).all()


@pytest.mark.parametrize("method", ["threshold", "adaptive"])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_saturated_logits_keep_the_coverage(method: str, scale: float) -> None:
    """In float32 the softmax of these is exactly 0 or 1; the peer's sets are empty then, with coverage 0."""
    rng = np.random.default_rng(0)
    logits, label = draw(rng, 500, 4)
    settings = SetSettings(coverage=0.8, method=method, randomized=method == "adaptive", nonempty=False)
    calibration = calibrate_sets(scale * logits, label, settings)
    new_logits, new_label = draw(rng, 500, 4)
    sets = calibration.sets(scale * new_logits)
    assert 0.77 <= covered(sets, new_label) <= 0.83
    assert sets.sum(axis=1).mean() < 3.2


@pytest.mark.parametrize("method", ["threshold", "adaptive"])
@pytest.mark.parametrize("accuracy", [0.97, 0.7])
def test_probabilities_of_exactly_0_and_1_keep_the_coverage(method: str, accuracy: float) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, size=(200, 10)).astype(np.uint8)
    answer = np.where(rng.random(label.shape) < accuracy, label, (label + 1) % 3)
    probabilities = (answer[:, None] == np.arange(3)[:, None]).astype(np.float32)
    logits = log_probabilities(probabilities)
    calibration = calibrate_sets(logits, label, SetSettings(coverage=0.9, method=method, nonempty=False))
    sets = calibration.sets(logits)
    assert covered(sets, label) >= 0.9
    assert sets.any(axis=1).all()
    if accuracy < 0.9:  # more than 10 % of the truths had the probability 0: only everything covers them
        assert sets.all()
        assert "probability 0" in calibration.statement
    elif method == "threshold":
        assert (sets.sum(axis=1) == 1).all()


def rare(rng: np.random.Generator, frames: int) -> tuple:
    """Class 1 is 5 % of the pixels, and the network sees it badly."""
    label = (rng.random((frames, 40)) < 0.05).astype(np.uint8)
    logit = np.where(label == 1, rng.normal(-1.5, 1, label.shape), rng.normal(-3, 1, label.shape))
    return logit[:, None].astype(np.float32), label


def test_a_rare_class_is_covered_when_asked_for() -> None:
    rng = np.random.default_rng(0)
    (logits, label), (new_logits, new_label) = rare(rng, 800), rare(rng, 800)
    together, each = (
        calibrate_sets(logits, label, SetSettings(coverage=0.9, per_class=per_class, nonempty=False))
        for per_class in (False, True)
    )
    assert measure_sets(together.sets(new_logits), new_label, resamples=10).per_class[1] < 0.2
    measured = measure_sets(each.sets(new_logits), new_label, resamples=10)
    for value in measured.per_class:
        assert 0.87 <= value <= 0.93
    assert [t.units for t in each.thresholds] == [800, int(label.any(axis=1).sum())]
    assert len(together.thresholds) == 1


def test_a_class_without_labels_is_in_every_set_and_named() -> None:
    logits, label = draw(np.random.default_rng(0), 60, 5)
    label[label == 2] = 255
    calibration = calibrate_sets(logits, label, SetSettings(per_class=True))
    assert calibration.sets(logits)[:, 2].all()
    assert not calibration.sets(logits).all()
    assert "class 2: calibrated on 0 pixels of 0 units" in calibration.statement
    assert "so class 2 is in every set" in calibration.statement


def test_unlabelled_pixels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    logits, label = draw(rng, 30, 50)
    sparse = np.where(rng.random(label.shape) < 0.1, label, 255).astype(np.uint8)
    nonsense = np.where((sparse == 255)[:, None], rng.normal(size=logits.shape) * 99, logits)
    first, second = (calibrate_sets(values, sparse, SetSettings()) for values in (logits, nonsense))
    assert first == second
    assert first.thresholds[0].pixels == (sparse != 255).sum()


def test_all_layouts_give_the_same_sets() -> None:
    logits, label = draw(np.random.default_rng(0), 30, 12, classes=3)
    frames, image = logits.reshape(30, 3, 3, 4), label.reshape(30, 3, 4)
    one_hot = np.eye(3, dtype=np.uint8)[image]
    flat = calibrate_sets(logits, label, SetSettings())
    assert calibrate_sets(frames, image, SetSettings()) == flat
    assert calibrate_sets(frames, label_from_one_hot(one_hot, axis=-1), SetSettings()) == flat
    assert calibrate_sets(list(frames), image.astype(np.int64), SetSettings()) == flat
    assert calibrate_sets(frames.reshape(30, 3, 1, 3, 4), image[:, None], SetSettings()) == flat
    for wrong, hint in ((image[:, None], r"give label\[:, 0\]"), (np.moveaxis(one_hot, -1, 1), "label_from_one_hot")):
        with pytest.raises(ArrayError, match=hint):
            calibrate_sets(frames, wrong, SetSettings())
    with pytest.raises(ArrayError, match="whole numbers"):
        calibrate_sets(frames, image.astype(float), SetSettings())
    with pytest.raises(ArrayError, match="label holds 7; allowed are 0"):
        calibrate_sets(frames, np.full_like(image, 7), SetSettings())
    with pytest.raises(ArrayError, match="at most one 1"):
        label_from_one_hot(np.ones((1, 3, 2)))


def test_one_logit_channel_is_the_same_as_two() -> None:
    logits, label = rare(np.random.default_rng(0), 100)
    two = np.concatenate([np.zeros_like(logits), logits], axis=1)
    one_channel, two_channels = (calibrate_sets(values, label, SetSettings()) for values in (logits, two))
    assert one_channel == two_channels
    assert np.array_equal(one_channel.sets(logits), two_channels.sets(two))
    with pytest.raises(ArrayError, match=r"wanted \(2, \.\.\.\)"):
        one_channel.sets(np.zeros((1, 3, 5)))


@given(seed=st.integers(0, 9999), classes=st.integers(2, 5))
def test_scores_are_those_of_the_definitions(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits, u = rng.normal(size=(classes, 7)), rng.random(7)
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    np.testing.assert_allclose(np.exp(-class_scores(logits)), p, rtol=1e-12)
    plain, random = (1 - np.exp(-class_scores(logits, "adaptive", uniform)) for uniform in (None, u))
    for c in range(classes):
        larger = np.where(p > p[c], p, 0).sum(axis=0)
        np.testing.assert_allclose(plain[c], larger + p[c], rtol=1e-9)
        np.testing.assert_allclose(random[c], larger + u * p[c], rtol=1e-9, atol=1e-12)


def test_scores_tell_apart_what_a_softmax_cannot() -> None:
    logits = np.array([[50.0, 60.0], [0.0, 0.0]])
    assert (1 / (1 + np.exp(-logits[0])) == 1).all()
    for method in ("threshold", "adaptive"):
        scores = class_scores(logits, method)
        assert scores[0, 0] != scores[0, 1]
    for bad in ([[np.nan], [0.0]], [[np.inf], [0.0]], [[-np.inf], [-np.inf]]):
        with pytest.raises(ArrayError, match="below infinity"):
            class_scores(np.array(bad))
    with pytest.raises(ArrayError, match="add up to 1"):
        log_probabilities(np.array([[0.5, 0.6]]))


def test_a_frame_has_the_same_sets_in_any_batch() -> None:
    logits, label = draw(np.random.default_rng(0), 40, 20)
    calibration = calibrate_sets(logits, label, SetSettings(method="adaptive", randomized=True, seed=3))
    whole = calibration.sets(logits)
    assert np.array_equal(calibration.sets(logits[7:9], frames=[7, 8]), whole[7:9])
    assert not np.array_equal(calibration.sets(logits[7:8], frames=[9]), whole[7:8])
    with pytest.raises(ArrayError, match="frame numbers"):
        calibration.sets(logits, frames=[0])


def test_calibration_and_prediction_draw_different_random_numbers() -> None:
    """With the same ones, exactly 801 of the 1000 calibration pixels would be covered; it is a matter of chance."""
    logits, label = draw(np.random.default_rng(0), 1000, 1)
    settings = SetSettings(coverage=0.8, method="adaptive", randomized=True, nonempty=False)
    hits = round(1000 * covered(calibrate_sets(logits, label, settings).sets(logits), label))
    assert hits != 801
    assert 770 <= hits <= 830


def test_the_most_likely_class_is_never_left_out() -> None:
    """A pixel where all classes are equally unlikely would have an empty set."""
    calibration = SetCalibration(SetSettings(), 3, (Threshold(0.5, 100, 100),))
    unsure = np.zeros((1, 3, 2))
    assert calibration.sets(unsure).sum(axis=1).tolist() == [[1, 1]]
    strict = SetCalibration(SetSettings(nonempty=False), 3, calibration.thresholds)
    assert not strict.sets(unsure).any()


def test_saved_with_the_network_and_read_back(tmp_path) -> None:
    logits, label = draw(np.random.default_rng(0), 30, 5)
    label[label == 3] = 255
    calibration = calibrate_sets(logits, label, SetSettings(per_class=True, method="adaptive", pixels_per_unit=2))
    assert math.isinf(calibration.thresholds[3].value)
    config = {"network": "TUNet", "in_channels": 1, "out_channels": 4, "depth": 2, "base_channels": 2}
    save_network(tmp_path, build_network(config, seed=0), {"conformal": calibration.to_dict()})
    network, metadata = load_network(tmp_path)
    restored = SetCalibration.from_dict(metadata["conformal"])
    assert restored == calibration
    assert np.array_equal(restored.sets(logits), calibration.sets(logits))
    with torch.inference_mode():
        assert restored.sets(network(torch.zeros(1, 1, 8, 8)).numpy()).shape == (1, 4, 8, 8)
    with pytest.raises(SettingError, match="kind 'intervals'; wanted 'sets'"):
        SetCalibration.from_dict(json.loads('{"kind": "intervals"}'))


def test_strange_settings_are_refused() -> None:
    for strange, message in (
        ({"coverage": 1.0}, "coverage is 1.0; it must be between 0 and 1"),
        ({"method": "aps"}, "method is 'aps'; it must be one of threshold, adaptive"),
        ({"randomized": True}, "False unless the method is adaptive"),
        ({"pixels_per_unit": 0}, "at least 1, or None"),
    ):
        with pytest.raises(SettingError, match=message):
            SetSettings(**strange)
