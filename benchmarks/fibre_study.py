"""Fibres in concrete from six labelled ones (Roberts et al. 2024, §4.2): an ensemble of SMSNets against a TUNet.

    python benchmarks/fibre_study.py FOLDER             # a volume of 256³, preset "paper" but for what is said below
    python benchmarks/fibre_study.py FOLDER --quick     # 96 slices of 128 x 128, small networks: does it run at all

FOLDER gets a volume to train on (sparse labels of six fibres, 10:2 background to foreground), another one, of another
seed, that no network has seen, and the models. F1 is that of the fibres on the whole of the other volume, by mean
probability above one half and by the paper's rule, mean - std > 0.5. What is there already is not done again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from deployments.simulated_fibres.settings import FibreSettings
from deployments.simulated_fibres.writers import write_volume
from dlsia_core.metrics.confusion import confusion_matrix, scores_per_class
from dlsia_core.segmentation import segment
from dlsia_core.segmentation.decisions import sure_label
from flows.train_segmentation import train_segmentation
from tasks.segmentation_model import load_segmentation

FIBRE = 1
ENSEMBLE = {"depth": 30, "hidden_channels": 8, "parameters": (43_000, 47_000)}
NETWORKS = {
    "SMSNet ensemble": ENSEMBLE,
    "TUNet": {"depth": 4, "base_channels": 32},
}
SMALL = {"SMSNet ensemble": {}, "TUNet": {"depth": 3, "base_channels": 8}}


def volumes(folder: Path, quick: bool) -> tuple[Path, Path]:
    """The volume to train on and the one to be judged on, made if they are not there."""
    scene = {"shape": (96, 128, 128), "fibres": 30, "length": 50.0, "radius": 3.0} if quick else {}
    for name, seed, labelled in (("training", 0, 6), ("unseen", 1, 0)):
        if not (folder / name / "truth" / "settings.json").exists():
            write_volume(folder / name, FibreSettings(**scene, seed=seed, label_fibres=labelled))
    return folder / "training", folder / "unseen"


def scores(model: Path, unseen: Path, device: str) -> dict[str, float]:
    """F1, precision and recall of the fibres on all slices of a volume, by both rules."""
    found = load_segmentation(model)
    matrices = {rule: np.zeros((2, 2), np.int64) for rule in ("mean > 0.5", "mean - std > 0.5")}
    for path in sorted((unseen / "volume").glob("*.tif")):
        truth = (tifffile.imread(unseen / "truth" / "instances" / path.name) > 0).astype(np.uint8)[None]
        answer = segment(found.network, found.recipe, tifffile.imread(path)[None], device)
        for rule, k in (("mean > 0.5", 0.0), ("mean - std > 0.5", 1.0)):
            matrices[rule] += confusion_matrix(truth, sure_label(answer.mean, answer.std, k, 0.5), 2)
    return {
        f"{score} by {rule}": round(float(values[FIBRE]), 4)
        for rule, matrix in matrices.items()
        for score, values in scores_per_class(matrix).items()
    }


def study(folder: Path, quick: bool, epochs: int | None) -> None:
    """Train both, judge both, and print a line of JSON for each."""
    training, unseen = volumes(folder, quick)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for network, settings in (SMALL if quick else NETWORKS).items():
        started = time.monotonic()
        # The preset "quick" but for the networks: 240 tiles of 128 x 128 hold all six fibres.
        result = train_segmentation(
            images=training / "volume",
            labels=training / "labels",
            output=folder / network.replace(" ", "-"),
            name="fibres",
            network=network,
            training={"network_settings": settings, "epochs": epochs, "members": 2 if quick else 5},
        )
        trained = time.monotonic() - started
        figures = scores(folder / network.replace(" ", "-"), unseen, device)
        facts = {"network": network, "device": device, "training_s": round(trained), "pixels": result.pixels, **figures}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small volume and small networks, minutes on two cores")
    parser.add_argument("--epochs", type=int, help="instead of as many as make 400 steps")
    given = parser.parse_args()
    study(given.folder, given.quick, given.epochs)
