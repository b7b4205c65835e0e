"""Nuclei from at most a quarter of their labels: published images, fully labelled, in two and in three dimensions.

    python benchmarks/nuclei_study.py FOLDER IMAGE LABELS       # a 2-D image, or slices one by one
    python benchmarks/nuclei_study.py FOLDER IMAGE LABELS --dimensions 3 [--members 3] [--seed 0]

A TUNet of the preset "quick" learns from a part of the labels, shared out in blocks; F1, and the coverage of conformal
sets, are those of the blocks that are left. Prints a line of JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import tifffile

from flows.train_segmentation import train_segmentation

FLAT: dict[str, Any] = {"training_share": 0.2, "validation_share": 0.05}
DEEP: dict[str, Any] = {
    "training_share": 0.34,
    "validation_share": 0.03,  # with the guard between blocks these are a quarter of the labels
    "block": 8,
    "guard": 1,
    "dimensions": 3,
    "tile_shape": (24, 32, 32),
    "margin": 4,
    "network_settings": {"depth": 3, "base_channels": 12, "activation": "silu"},
    "class_weights": "inverse",
    # A few dozen nuclei: more of them by turning and bending these, and an average that chance moves less.
    "turn_deg": 180,
    "stretch": 0.1,
    "bend_px": 1.5,
    "averaging": 0.99,
    "epochs": 150,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path, help="0 is background; other numbers are nuclei")
    parser.add_argument("--dimensions", type=int, choices=(2, 3), default=2)
    parser.add_argument("--members", type=int, default=1, help="networks that answer together")
    parser.add_argument("--seed", type=int, default=0, help="of the blocks, weights and order of tiles")
    given = parser.parse_args()
    started = time.monotonic()
    result = train_segmentation(
        images=given.image,
        labels=given.labels,
        output=given.folder / f"nuclei-{given.dimensions}d-{given.members}-{given.seed}",
        name="nuclei",
        network="TUNet",
        meaning={"classes": {"background": 0, "nucleus": "rest"}, "unlabelled": None},
        training={**(DEEP if given.dimensions == 3 else FLAT), "members": given.members, "seed": given.seed},
    )
    labelled = tifffile.imread(given.labels).size
    shares = {name: round(count / labelled, 4) for name, count in result.pixels.items()}
    scores = {key: round(value, 4) for key, value in result.scores[1].items() if isinstance(value, float)}
    found = {"seconds": round(time.monotonic() - started), "shares": shares, **scores, "sets": result.sets["classes"]}
    print(json.dumps(found), flush=True)
