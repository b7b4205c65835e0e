"""The map of a scan that is still growing."""

import numpy as np
import pytest

from dlsia_core.errors import ArrayError
from dlsia_core.live_map import NOISE, LiveMapSettings, fit_live_map


def kinds(n_frames: int, which: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Small frames of planted kinds, far from each other, and the kind of each."""
    rng = np.random.default_rng(seed)
    kind = np.array([which[i % len(which)] for i in range(n_frames)])
    centers = np.random.default_rng(99).normal(size=(10, 64))
    return (centers[kind] + 0.05 * rng.normal(size=(n_frames, 64))).astype(np.float32), kind


@pytest.fixture(scope="module")
def fitted():
    return fit_live_map(kinds(48, (0, 1, 2))[0], LiveMapSettings(components=8))


def test_fitted_frames_keep_their_places_and_clusters(fitted) -> None:
    places, clusters = fitted.place(kinds(48, (0, 1, 2))[0])
    np.testing.assert_allclose(places, fitted.places, atol=1e-4)
    np.testing.assert_array_equal(clusters, fitted.clusters)


def test_later_frames_lie_among_their_kind(fitted) -> None:
    before, later = kinds(48, (0, 1, 2))[1], kinds(30, (2, 0, 1), seed=1)
    places, clusters = fitted.place(later[0])
    middle = np.array([fitted.places[before == kind].mean(axis=0) for kind in range(3)])
    nearest = np.linalg.norm(places[:, None] - middle, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, later[1])
    for kind in range(3):
        assert set(clusters[later[1] == kind]) == set(fitted.clusters[before == kind])


def test_each_frame_is_placed_on_its_own(fitted) -> None:
    features = kinds(7, (1, 2), seed=2)[0]
    together = fitted.place(features)
    for row in range(7):
        places, clusters = fitted.place(features[row : row + 1])
        np.testing.assert_allclose(places[0], together[0][row], atol=1e-4)
        assert clusters[0] == together[1][row]


def test_a_kind_that_was_not_there_belongs_to_no_cluster_until_the_map_is_fitted_anew(fitted) -> None:
    new = kinds(10, (5,), seed=3)[0]
    assert set(fitted.place(new)[1]) == {NOISE}
    again = fit_live_map(np.concatenate([kinds(48, (0, 1, 2))[0], new]), LiveMapSettings(components=8), fitted)
    assert NOISE not in set(again.place(new)[1])
    assert len(set(again.clusters) - {NOISE}) == 4


def test_a_new_map_lies_as_the_one_before(fitted) -> None:
    """Turned and mirrored, not stretched: what stayed alike stays about where it was."""
    features, kind = kinds(96, (0, 1, 2))
    free, held = fit_live_map(features, LiveMapSettings(8)), fit_live_map(features, LiveMapSettings(8), fitted)
    own = np.linalg.norm(held.places[:, None] - held.places, axis=2)
    np.testing.assert_allclose(own, np.linalg.norm(free.places[:, None] - free.places, axis=2), atol=1e-3)
    before = kinds(48, (0, 1, 2))[1]
    for number in range(3):
        moved = held.places[kind == number].mean(axis=0) - fitted.places[before == number].mean(axis=0)
        others = [fitted.places[before == other].mean(axis=0) for other in range(3) if other != number]
        apart = min(np.linalg.norm(fitted.places[before == number].mean(axis=0) - other) for other in others)
        assert np.linalg.norm(moved) < apart


def test_frames_that_are_all_the_same_are_no_strangers_to_each_other() -> None:
    same = np.ones((20, 9), np.float32)
    fitted = fit_live_map(same, LiveMapSettings())
    assert np.isfinite(fitted.places).all()
    assert fitted.usual >= 0
    assert np.isfinite(fitted.place(same[:2])[0]).all()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ArrayError, match="finite"):
        fit_live_map(np.full((20, 4), np.nan, np.float32), LiveMapSettings())
