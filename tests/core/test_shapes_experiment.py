"""The experiment of Roberts et al. 2024, §4.3: reconstruction, separation of shapes, same seed, same numbers."""

import numpy as np
import pytest

from dlsia_core.errors import SettingError
from dlsia_core.networks.registry import network_config
from dlsia_core.shapes import ShapeSettings, random_shapes
from dlsia_core.shapes_experiment import (
    ExperimentResult,
    ExperimentSettings,
    adjusted_rand_index,
    run_shapes_experiment,
)

SMALL = ExperimentSettings(training_tiles=24, new_tiles=16, epochs=2, min_cluster_size=3, min_samples=2)


@pytest.fixture(scope="module")
def small() -> ExperimentResult:
    return run_shapes_experiment(3, SMALL)


def test_a_small_experiment_has_all_parts_and_the_same_bits_again(small: ExperimentResult) -> None:
    first, again = small, run_shapes_experiment(3, SMALL)
    assert first.latent.shape == (16, 16)
    assert first.reconstruction.shape == first.tiles.images.shape == (16, 64, 64)
    assert first.umap.coordinates.shape == (16, 2)
    for name in ("latent", "reconstruction", "cluster"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert np.array_equal(first.umap.coordinates, again.umap.coordinates)
    assert (first.pearson_clean, first.adjusted_rand) == (again.pearson_clean, again.adjusted_rand)
    assert not np.array_equal(first.latent, run_shapes_experiment(4, SMALL).latent)


def test_the_network_is_the_papers_and_the_new_tiles_were_not_trained_on(small: ExperimentResult) -> None:
    config = network_config(small.fit.network)
    paper = {"network": "ConvAutoencoder", "depth": 4, "base_channels": 16, "latent_dim": 16}
    assert {key: config[key] for key in paper} == paper
    training = random_shapes(range(24), 3, SMALL.shapes).parameters
    assert not set(training["radius"]) & set(small.tiles.parameters["radius"])
    assert np.array_equal(small.tiles.images, random_shapes(range(24, 40), 3, SMALL.shapes).images)


def test_the_numbers_are_what_they_say(small: ExperimentResult) -> None:
    pairs = {
        "pearson_noisy": (small.reconstruction, small.tiles.images),
        "pearson_clean": (small.reconstruction, small.tiles.clean),
        "pearson_limit": (small.tiles.clean, small.tiles.images),
    }
    for name, (a, b) in pairs.items():
        assert getattr(small, name) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
    assert small.adjusted_rand == adjusted_rand_index(small.tiles.shape, small.cluster)
    # By hand, Hubert & Arabie 1985, eq. 5: pairs in cells 1 + 1, in rows 3 + 3, in columns 3 + 3, of 15.
    assert adjusted_rand_index(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1])) == pytest.approx(
        (2 - 36 / 15) / (6 - 36 / 15)
    )


def test_an_experiment_without_tiles_is_refused() -> None:
    with pytest.raises(SettingError, match="wanted at least 1 each"):
        ExperimentSettings(new_tiles=0)
    assert ExperimentSettings(shapes=ShapeSettings(noise=0)).shapes.noise == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_shapes_are_reconstructed_and_told_apart() -> None:
    """Quality floor: r of at least 0.98 as in the paper, and clusters of the map that are the four shapes."""
    result = run_shapes_experiment(0)
    assert result.pearson_noisy >= 0.98
    assert result.pearson_clean >= 0.985
    assert result.adjusted_rand >= 0.9
    assert result.cluster.max() + 1 == 4
