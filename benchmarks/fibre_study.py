"""Fibres in concrete from six labelled ones (Roberts et al. 2024, §4.2): an ensemble of SMSNets against a TUNet.

    python benchmarks/fibre_study.py FOLDER             # a volume of 256³, preset "quick" but for what is said below
    python benchmarks/fibre_study.py FOLDER --quick     # 96 slices of 128 x 128, small networks: does it run at all
    python benchmarks/fibre_study.py FOLDER --plain     # single slices with their rings: what the paper's networks saw

FOLDER gets a volume to train on (sparse labels of six fibres, 10:2 background to foreground), another one, of another
seed, that no network has seen, and the models. F1 is that of the fibres on all voxels of the first one without a label,
as in the paper, and on the whole of the other one, by mean probability above one half and by the paper's rule,
mean - std > 0.5, each before and after small pieces are dusted off. What is there already is not done again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from deployments.simulated_fibres.settings import FibreSettings
from deployments.simulated_fibres.writers import write_volume
from dlsia_core.metrics.confusion import confusion_matrix, scores_per_class
from flows.report_instances import report_instances
from flows.segment_volume import segment_volume
from flows.train_segmentation import train_segmentation
from tasks.store import VolumeStore

FIBRE, UNLABELLED = 1, 255
MIN_VOXELS = 500
"""Smaller pieces are dust: a fibre has 6,500 voxels."""
RULES = {"mean > 0.5": 0.0, "mean - std > 0.5": 1.0}
CONTEXT = 4
"""Slices above and below that a network sees: enough to see that a pore ends where a fibre goes on."""
ENSEMBLE = {"depth": 24, "hidden_channels": 8, "parameters": (43_000, 47_000)}
TRAINING: dict[str, Any] = {
    # Six fibres are few: most of what is labelled is learned from, and all of its tiles; the test is another volume.
    # A guard of 2 px between blocks of 16 leaves more of it, and enough blocks for calibration and test.
    "training_share": 0.7,
    "validation_share": 0.05,
    "block": 16,
    "guard": 2,
    "max_tiles": 0,
    "tile_shape": (96, 96),
    "batch_size": 8,
    # What six fibres look like is no guide to the gray of all others.
    "contrast_jitter": 0.15,
    "brightness_jitter": 0.5,
    # Where members disagree, mean - std > 0.5 takes a rim off each fibre; what weights a fibre's voxels puts it back.
    "class_weights": (1.0, 2.5),
    # Members that have come to rest disagree less.
    "falls": (0.5, 0.8, 0.9),
}
NETWORKS = {
    "SMSNet ensemble": ENSEMBLE,
    "TUNet": {"depth": 4, "base_channels": 32},
}
SMALL = {"SMSNet ensemble": {}, "TUNet": {"depth": 3, "base_channels": 8}}

NOT_PLAIN = ("contrast_jitter", "brightness_jitter")


def volumes(folder: Path, quick: bool) -> tuple[Path, Path]:
    """The volume to train on and the one to be judged on, made if they are not there."""
    scene = {"shape": (96, 128, 128), "fibres": 30, "length": 50.0, "radius": 3.0} if quick else {}
    for name, seed, labelled in (("training", 0, 6), ("unseen", 1, 0)):
        if not (folder / name / "truth" / "settings.json").exists():
            write_volume(folder / name, FibreSettings(**scene, seed=seed, label_fibres=labelled))
    return folder / "training", folder / "unseen"


def judged(model: Path, volume: Path, store: Path) -> dict[str, Any]:
    """A volume through the product, by each rule: what it says, and how true that is where nothing was labelled."""
    started, labels = time.monotonic(), volume / "labels"
    found = [
        segment_volume(
            source=volume / "volume", model=model, store=store, rule={"k": k}, instances={"min_voxels": MIN_VOXELS}
        )
        for k in RULES.values()
    ]
    facts: dict[str, Any] = {"volume": volume.name, "segmented_s": round(time.monotonic() - started)}
    for rule, result in zip(RULES, found, strict=True):
        figures = figures_of(store, result.arrays, volume / "truth", labels if labels.exists() else None)
        facts |= {f"{name} by {rule}": value for name, value in figures.items()}
    return facts


def figures_of(store: Path, arrays: dict[str, str], truth: Path, labels: Path | None = None) -> dict[str, Any]:
    """F1, precision and recall of fibres on all voxels without a label, before and after dusting, and their lengths."""
    held, matrices = VolumeStore(store), {"": np.zeros((2, 2), np.int64), ", without dust,": np.zeros((2, 2), np.int64)}
    for number, path in enumerate(sorted((truth / "instances").glob("*.tif"))):
        is_fibre = (tifffile.imread(path) > 0).astype(np.uint8)
        here = np.ones(is_fibre.shape, bool) if labels is None else tifffile.imread(labels / path.name) == UNLABELLED
        for name, matrix in zip(("label", "instance"), matrices.values(), strict=True):
            said = (held.array(arrays[name])[number] > 0).astype(np.uint8)
            matrix += confusion_matrix(is_fibre[here], said[here], 2)
    figures = {
        f"{score}{dusted}": round(float(values[FIBRE]), 4)
        for dusted, matrix in matrices.items()
        for score, values in scores_per_class(matrix).items()
    }
    described = report_instances(store=store, array=arrays["instance"], truth=truth / "fibres.csv")
    return {**figures, "instances": described.sentence}


def study(folder: Path, networks: dict[str, dict[str, Any]], given: argparse.Namespace) -> None:
    """Train all, judge all, and print a line of JSON for each."""
    training, unseen = volumes(folder, given.quick)
    epochs = given.epochs or (10 if given.planes == "slices" else 2)
    how = {"context": given.context, "planes": given.planes, **TRAINING, "epochs": epochs}
    if given.plain:
        how = {key: value for key, value in how.items() if key not in NOT_PLAIN} | {"context": 0}
    suffix = ("-plain" if given.plain else "") + ("-orthogonal" if given.planes == "orthogonal" else "")
    for network, settings in networks.items():
        name, started = network.replace(" ", "-") + suffix, time.monotonic()
        result = train_segmentation(
            images=training / "volume",
            labels=training / "labels",
            output=folder / name,
            name="fibres",
            network=network,
            reading={"rings": {"remove": not given.plain}},
            training={**how, "network_settings": settings},
        )
        trained = round(time.monotonic() - started)
        facts = {"network": network, "training_s": trained, "pixels": result.pixels, "sets": result.sets}
        print(json.dumps(facts), flush=True)
        for volume in (training, unseen):
            print(json.dumps(judged(folder / name, volume, folder / f"{name}-{volume.name}.zarr")), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small volume and small networks, minutes on two cores")
    parser.add_argument("--planes", choices=["slices", "orthogonal"], default="slices", help="what tiles are cut in")
    parser.add_argument("--epochs", type=int, help="passes over the training tiles; 10, or 2 with orthogonal planes")
    parser.add_argument("--context", type=int, default=CONTEXT, help="slices above and below that a network sees")
    parser.add_argument("--plain", action="store_true", help="single slices, as they are, with their rings")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="which of them")
    given = parser.parse_args()
    sizes = SMALL if given.quick else NETWORKS
    study(given.folder.resolve(), {name: sizes[name] for name in given.networks}, given)
