"""Frames of another sample or detector state are strangers, more frames of the same kind are not."""

import json

import numpy as np
import pytest

from deployments.simulated_beamtime import SimulationSettings, simulate_frame
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.familiarity import Familiarity, FamiliaritySettings, fit_familiarity
from dlsia_core.intensity import LogScale
from dlsia_core.resize import AreaResizer

SAMPLES = ("powder", "saxs_spheres")


def frames_of(numbers, samples=SAMPLES, **changes):
    """Simulated frames (frame, 128, 128) with NaN in gaps."""
    setup = SimulationSettings(**{"detector": "Pilatus300k", "samples": samples, "seed": 3, **changes})
    resized = []
    for number in numbers:
        counts = simulate_frame(setup, number).counts
        resizer = AreaResizer(counts.shape, (128, 128))
        resized.append(LogScale().normalize(resizer.resize(counts, (counts >= 0) & (counts <= 1_000_000))[0]))
    return np.stack(resized)


@pytest.fixture(scope="module")
def scan():
    """A scan of two sample types, and what is familiar to whoever knows it."""
    frames = frames_of(range(24))
    return frames, fit_familiarity(frames)


def test_frames_between_the_training_frames_are_familiar():
    frames = frames_of(range(48))
    order = np.random.default_rng(0).permutation(48)
    familiarity = fit_familiarity(frames[order[:24]])
    distance = familiarity.distance(frames[order[24:]])
    assert not familiarity.unfamiliar(distance).any()
    assert np.median(distance) == pytest.approx(0.7, abs=0.3)


@pytest.mark.parametrize("sample", ["gisaxs_film", "semicrystalline", "fibre"])
def test_a_third_sample_type_is_a_stranger_to_two(sample, scan):
    _, familiarity = scan
    strangers = familiarity.distance(frames_of(range(4), (sample,)))
    assert familiarity.unfamiliar(strangers).all()
    assert strangers.min() > 1.3 * familiarity.threshold


def test_another_state_of_the_detector_is_a_stranger(scan):
    frames, familiarity = scan
    off, stuck, moved = frames[:3].copy(), frames[:3].copy(), frames_of(range(3), beam_x_px=292.0)
    off[:, 42:85, 64:] = np.nan  # a module that sends nothing
    stuck[:, 42:85, 64:] = 0
    for strange in (off, stuck, moved, np.full((1, 128, 128), np.nan)):
        assert familiarity.unfamiliar(familiarity.distance(strange)).all()
    few = frames[:3].copy()
    few[:, ::40, ::40] = np.nan  # some dead pixels
    assert not familiarity.unfamiliar(familiarity.distance(few)).any()


def test_about_one_frame_in_a_hundred_of_the_same_kind_is_marked():
    """Frames that differ from each other by far more than the tolerance, drawn from one distribution."""
    rng = np.random.default_rng(5)
    shapes = rng.normal(size=(6, 24, 24))

    def draw(n):
        return np.einsum("nk,krc->nrc", rng.normal(size=(n, 6)), shapes) + 0.05 * rng.normal(size=(n, 24, 24))

    shares = []
    for _ in range(4):
        familiarity = fit_familiarity(draw(60), FamiliaritySettings((12, 12), tolerance=1e-6))
        shares.append(familiarity.unfamiliar(familiarity.distance(draw(250))).mean())
    assert 0.001 < np.mean(shares) < 0.03


def test_frames_that_are_all_alike_make_no_stranger_of_a_small_difference():
    still = np.full((10, 32, 32), 0.4) + 1e-5 * np.random.default_rng(0).normal(size=(10, 32, 32))
    familiarity = fit_familiarity(still)
    assert not familiarity.unfamiliar(familiarity.distance(still + 0.005)).any()
    assert familiarity.unfamiliar(familiarity.distance(still + 0.1)).all()
    assert fit_familiarity(np.full((6, 8, 8), 0.4)).distance(np.full((1, 8, 8), 0.4)) < 1e-3


def test_distance_depends_on_the_frame_alone_and_survives_json(scan):
    frames, familiarity = scan
    kept = Familiarity.from_dict(json.loads(json.dumps(familiarity.to_dict(), allow_nan=False)))
    together = familiarity.distance(frames)
    assert together.dtype == np.float32
    np.testing.assert_array_equal([familiarity.distance(frame[None])[0] for frame in frames], together)
    np.testing.assert_array_equal(kept.distance(frames[::-1])[::-1], together)
    np.testing.assert_array_equal(kept.unfamiliar(together * 10), familiarity.unfamiliar(together * 10))
    assert kept.threshold == familiarity.threshold
    assert fit_familiarity(frames).to_dict() == familiarity.to_dict()
    assert len(json.dumps(familiarity.to_dict())) < 200_000


def test_frames_of_another_size_have_a_distance():
    familiarity = fit_familiarity(np.random.default_rng(0).random((8, 40, 50)))
    assert np.isfinite(familiarity.distance(np.ones((2, 10, 30), np.float32))).all()


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ArrayError, match=r"wanted \(frame, row, column\)"):
        fit_familiarity(np.ones((8, 8, 8))).distance(np.ones((8, 8)))
    with pytest.raises(ArrayError, match="5 frames are too few for a latent space; 6 are needed"):
        fit_familiarity(np.ones((5, 8, 8)))
    with pytest.raises(SettingError, match="tolerance is 0"):
        FamiliaritySettings(tolerance=0)
    with pytest.raises(SettingError, match="format of the familiarity is None"):
        Familiarity.from_dict({})
