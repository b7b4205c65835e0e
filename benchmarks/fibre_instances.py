"""Instances of simulated fibres against their truth: `python benchmarks/fibre_instances.py [--shape 256 256 256] …`.

The truth's own voxels, blurred and cut at a threshold so that neighbors grow together as in a network's answer, are
labelled with and without splitting; prints how many fibres are found (intersection over union above 0.5), the error
of their lengths, and the Kolmogorov-Smirnov distance of the lengths.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deployments.simulated_fibres import FibreSettings, build_scene, image_slab
from dlsia_core.instances import SplitSettings, instance_table, ks_distance, label_slabs

SLAB = 64
MIN_VOXELS = 100


def measured(labels: NDArray[np.uint32]) -> NDArray[np.float64]:
    return instance_table(lambda a, b: labels[a:b], len(labels), int(labels.max()), SLAB).length


def overlaps(truth: NDArray[np.uint32], labels: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Intersection over union (fibre, instance)."""
    shape = (int(truth.max()) + 1, int(labels.max()) + 1)
    pairs = np.bincount(truth.ravel().astype(np.int64) * shape[1] + labels.ravel(), minlength=shape[0] * shape[1])
    both = pairs.reshape(shape)
    union = both.sum(axis=1)[1:, None] + both.sum(axis=0)[None, 1:] - both[1:, 1:]
    return np.asarray(both[1:, 1:] / union)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 256))
    parser.add_argument("--fibres", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threshold", type=float, default=0.4, help="Of the blurred fibres; lower: more of them touch."
    )
    options = parser.parse_args()
    settings = FibreSettings(shape=tuple(options.shape), fibres=options.fibres, seed=options.seed)
    scene, depth = build_scene(settings), settings.shape[0]
    truth = np.concatenate([image_slab(scene, z, min(z + 32, depth)).ids for z in range(0, depth, 32)])
    lengths = instance_table(lambda a, b: truth[a:b], depth, len(scene.fibres), SLAB).length
    volume = ndimage.gaussian_filter((truth > 0).astype(np.float32), 1.0) > options.threshold
    for name, split in (("connected", None), ("split", SplitSettings())):
        began = time.perf_counter()
        parts = label_slabs(lambda a, b: volume[a:b], depth, SLAB, min_voxels=MIN_VOXELS, split=split)
        labels = np.concatenate([part for _, part in parts])
        seconds = time.perf_counter() - began
        shared, found = overlaps(truth, labels), measured(labels)
        right = shared.max(axis=1) > 0.5
        error = np.median(np.abs(found[shared.argmax(axis=1)] - lengths)[right])
        print(
            f"{name}: {labels.max()} instances, {right.sum()} of {len(lengths)} fibres found, median error of length "
            f"{error:.2f} px, Kolmogorov-Smirnov distance {ks_distance(found, lengths):.3f}, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
