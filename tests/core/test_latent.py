"""The latent map: planted groups are found, the same seed gives the same bits, few frames work."""

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.latent import FrameRecipe, encode_frames, hdbscan_clusters, pool_frames, umap_coordinates
from dlsia_core.networks import build_network
from dlsia_core.training import ArrayExamples, TrainSettings, fit, weighted_l2


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Latent vectors (90, 16) of three groups, and the group of each."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    centers = rng.normal(size=(3, 16)) * 4
    return (centers[group] + rng.normal(size=(90, 16))).astype(np.float32), group


def test_planted_groups_are_found(planted) -> None:
    latent, group = planted
    result = umap_coordinates(latent, n_neighbors=15, min_dist=0.1, seed=1)
    assert result.coordinates.shape == (90, 2)
    assert result.coordinates.dtype == np.float32
    assert trustworthiness(latent, result.coordinates, n_neighbors=10) >= 0.8
    cluster = hdbscan_clusters(result.coordinates, min_cluster_size=10)
    assert cluster.dtype == np.int64
    assert adjusted_rand_score(group, cluster) >= 0.9


def test_the_same_seed_gives_the_same_bits(planted) -> None:
    latent, _ = planted
    first, again, other = (umap_coordinates(latent, seed=seed).coordinates for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("count", [4, 10])
def test_few_frames_work_and_the_result_says_how_many_neighbors_were_used(planted, count: int) -> None:
    result = umap_coordinates(planted[0][:count], n_neighbors=15)
    assert np.isfinite(result.coordinates).all()
    assert result.n_neighbors == count - 1
    assert umap_coordinates(planted[0][:30], n_neighbors=15).n_neighbors == 15


def test_one_latent_number_and_equal_frames_work() -> None:
    assert umap_coordinates(np.arange(12, dtype=np.float32)[:, None]).coordinates.shape == (12, 2)
    assert np.isfinite(umap_coordinates(np.ones((12, 3), np.float32)).coordinates).all()


def test_points_far_from_all_groups_are_noise() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(center, 0.1, size=(12, 2)) for center in ((0, 0), (5, 5))]
    points = np.concatenate([*groups, [[50.0, -50.0]]]).astype(np.float32)
    cluster = hdbscan_clusters(points, min_cluster_size=6)
    assert cluster[-1] == -1
    assert adjusted_rand_score(np.repeat([0, 1], 12), cluster[:-1]) == 1
    one = rng.normal(0, 0.1, size=(40, 2)).astype(np.float32)
    assert set(hdbscan_clusters(one, min_cluster_size=10, allow_single_cluster=True)) == {-1, 0}
    assert set(hdbscan_clusters(one, min_cluster_size=10)) != {-1, 0}


def test_what_cannot_work_is_refused(planted) -> None:
    latent, _ = planted
    with pytest.raises(ArrayError, match=r"latent has shape \(3, 16\); a map needs .* at least 4 frames"):
        umap_coordinates(latent[:3])
    with pytest.raises(ArrayError, match="finite"):
        umap_coordinates(np.full((5, 2), np.nan, np.float32))
    with pytest.raises(SettingError, match="n_neighbors is 1"):
        umap_coordinates(latent, n_neighbors=1)
    with pytest.raises(ArrayError, match=">= 5 frames"):
        hdbscan_clusters(latent[:4])
    with pytest.raises(SettingError, match="min_cluster_size is 1"):
        hdbscan_clusters(latent, min_cluster_size=1)
    with pytest.raises(SettingError, match="size is"):
        FrameRecipe((0, 3))
    with pytest.raises(ArrayError, match=r"wanted \(frame, row, column\)"):
        pool_frames(latent, (2, 2))


def test_pooling_is_the_mean_of_the_finite_pixels() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(3, 12, 20)).astype(np.float32)
    frames[rng.random(frames.shape) < 0.3] = np.nan
    frames[0, :3, :5] = np.nan
    expected = np.nan_to_num(np.nanmean(frames[1:].reshape(2, 4, 3, 4, 5), axis=(2, 4)))
    pooled = pool_frames(frames, (4, 4))
    np.testing.assert_allclose(pooled[1:], expected, rtol=1e-6, atol=1e-7)
    assert pooled[0, 0, 0] == 0
    assert np.array_equal(pooled[1:], pool_frames(frames[1:], (4, 4)))


def frames_of_two_kinds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kind = np.arange(24) % 2
    rows, columns = np.mgrid[:40, :40]
    radius = np.hypot(rows - 20, columns - 20)
    frames = np.stack([np.cos(radius / (2 + 2 * k)) + rng.normal(0, 0.3, radius.shape) for k in kind])
    frames[:, 10:12] = np.nan
    return frames.astype(np.float32), kind


def test_an_autoencoder_tells_two_kinds_of_frames_apart_whatever_the_batch() -> None:
    frames, kind = frames_of_two_kinds()
    recipe = FrameRecipe.from_frames(frames, (20, 20))
    config = {"network": "ConvAutoencoder", "in_channels": 1, "out_channels": 1, "depth": 2, "base_channels": 4}
    network = build_network(config | {"latent_dim": 4, "input_shape": list(recipe.size)}, seed=0)
    examples = ArrayExamples(recipe.prepare(frames))
    result = fit(network, examples, weighted_l2, TrainSettings(epochs=25, batch_size=8, learning_rate=5e-3))
    assert result.best_loss < 0.5, "the variance of the standardized frames is 1"
    latent = encode_frames(network, frames, recipe, batch_size=24)
    assert latent.shape == (24, 4)
    assert latent.dtype == np.float32
    assert np.array_equal(latent, encode_frames(network, frames[::-1], recipe, batch_size=5)[::-1])
    distance = np.linalg.norm(latent[:, None] - latent, axis=2)
    same = kind[:, None] == kind
    assert distance[~same].min() > distance[same].max()


def test_a_recipe_comes_back_from_its_dictionary() -> None:
    recipe = FrameRecipe.from_frames(frames_of_two_kinds()[0], (8, 8))
    assert FrameRecipe.from_dict(recipe.to_dict() | {"size": [8, 8]}) == recipe
    prepared = recipe.prepare(frames_of_two_kinds()[0])
    assert prepared.mean() == pytest.approx(0, abs=1e-5)
    assert prepared.std() == pytest.approx(1, rel=1e-5)
    assert torch.from_numpy(prepared).shape == (24, 1, 8, 8)
