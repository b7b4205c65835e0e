"""The shapes experiment of the DLSIA paper, §4.3: `python benchmarks/shapes_experiment.py [--seeds 0 1 2]`.

Prints for each seed the reconstruction's Pearson r and the adjusted Rand index of the clusters with the four shapes;
with --figures FOLDER it draws the training, some reconstructions and the map with thumbnails (the paper's Fig. 9).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from dlsia_core.plots import plot_latent_points, plot_latent_view, plot_regression, plot_training
from dlsia_core.shapes import SHAPES
from dlsia_core.shapes_experiment import ExperimentResult, ExperimentSettings, run_shapes_experiment
from dlsia_core.training import ProgressBar

EXAMPLES = 4


def draw(result: ExperimentResult, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tiles, coordinates = result.tiles, result.umap.coordinates
    names = [f"cluster {number}" for number in range(result.cluster.max() + 1)]
    figures = {
        "training": plot_training(result.fit, loss_unit="mean square error"),
        "shapes": plot_latent_points(coordinates, tiles.shape, group_names=SHAPES),
        "thumbnails": plot_latent_view(coordinates, tiles.images, bins=28, groups=tiles.shape, group_names=SHAPES),
        "clusters": plot_latent_view(coordinates, tiles.images, bins=28, groups=result.cluster, group_names=names),
    }
    for number, name in enumerate(SHAPES):
        index = int(np.flatnonzero(tiles.shape == number)[0])
        figures[name] = plot_regression(result.reconstruction[index], tiles.clean[index], tiles.images[index])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}-seed{seed}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--training-tiles", type=int, default=ExperimentSettings.training_tiles)
    parser.add_argument("--new-tiles", type=int, default=ExperimentSettings.new_tiles)
    parser.add_argument("--epochs", type=int, default=ExperimentSettings.epochs)
    parser.add_argument("--learning-rate", type=float, default=ExperimentSettings.learning_rate)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--figures", type=Path, default=None)
    options = parser.parse_args()
    settings = ExperimentSettings(options.training_tiles, options.new_tiles, options.epochs, options.learning_rate)
    for seed in options.seeds:
        began = time.perf_counter()
        result = run_shapes_experiment(seed, settings, device=options.device, hooks=(ProgressBar(),))
        if options.figures is not None:
            draw(result, options.figures, seed)
        print(
            f"seed {seed}: r {result.pearson_noisy:.4f} with the images, {result.pearson_clean:.4f} without their "
            f"noise, at best {result.pearson_limit:.4f}; adjusted Rand index {result.adjusted_rand:.3f}, "
            f"{result.cluster.max() + 1} clusters, {(result.cluster < 0).sum()} of {len(result.cluster)} tiles noise; "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
