"""A large volume of fibres through segment_volume, killed on its way and run again.

    python benchmarks/fibre_volume.py FOLDER --model MODEL                  # 512³, 480 fibres; MODEL by fibre_study.py
    python benchmarks/fibre_volume.py FOLDER --model MODEL --shape 256 256 256 --fibres 60

FOLDER gets the volume, its truth and the stores. After `--kill` of the slices the process is killed (`kill -9`) and the
same command run again. Printed: seconds and most memory of each process, above the bare one (libraries loaded, model
read, one tile answered); how true the result is; and whether all arrays and the table of instances have the same bits
as those of an undisturbed run, or, with `--part`, the probabilities of the slices where it was killed as those of these
slices segmented by themselves.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fibre_study import MIN_VOXELS, figures_of

from deployments.simulated_fibres.settings import FibreSettings
from deployments.simulated_fibres.writers import write_volume
from tasks.segmentation_model import load_segmentation
from tasks.store import VolumeStore

ARRAYS = ("probability_mean", "probability_std", "label", "conformal_set", "instance")
SLAB = 16
"""Slices that are computed and committed together."""
RUN = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from dlsia_core.segmentation import answer_tiles
from flows.embedded_server import running_server
from flows.segment_volume import segment_volume
from tasks.segmentation_model import load_segmentation

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

arguments = json.loads(sys.argv[1])
found = load_segmentation(Path(arguments["model"]))
answer_tiles(found.network, found.recipe, np.zeros((1, found.recipe.seen_slices, 64, 64), np.uint16))
with running_server():
    bare, started = peak(), time.monotonic()
    result = segment_volume(**arguments)
seconds = time.monotonic() - started
print(f"{seconds:.0f} s; {peak() - bare:.0f} MiB above the bare process's {bare:.0f}; {result.sentence}")
"""


def started(source: Path, model: Path, store: Path, rings: dict[str, Any] | None = None) -> "subprocess.Popen[bytes]":
    settings = {"source": str(source), "model": str(model), "store": str(store)}
    more = {"instances": {"min_voxels": MIN_VOXELS}, "segment": {"rings": rings or {}}}
    arguments = json.dumps({**settings, **more})
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", RUN, arguments])


def kill_at(process: "subprocess.Popen[bytes]", store: Path, slabs: int) -> None:
    """Kill the process when so many slabs of probabilities are written."""
    began = time.monotonic()
    while process.poll() is None:
        written = list((store / "probability_std").glob("c/0/*"))
        if len(written) >= slabs:
            os.kill(process.pid, signal.SIGKILL)
            print(f"killed after {time.monotonic() - began:.0f} s, {len(written)} slabs written", flush=True)
        time.sleep(0.5)


def same_by_itself(volume: Path, model: Path, store: Path, folder: Path, first: int, count: int) -> bool:
    """Whether the probabilities of some slices are those of a run on these slices and their neighbors alone."""
    context = load_segmentation(model).recipe.context
    files = sorted(volume.glob("*.tif"))[first - context : first + count + context]
    part = folder / "part"
    part.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, part / file.name)
    whole = VolumeStore(store)
    # About the axis that was found in the whole volume: a few slices may tell another one, half a pixel away.
    origin: Any = whole.array("probability_mean").attrs["origin"]
    assert started(part, model, folder / "part.zarr", origin.get("rings", {"remove": False})).wait() == 0
    alone = VolumeStore(folder / "part.zarr")
    return all(
        np.array_equal(whole.array(name)[:, first : first + count], alone.array(name)[:, context : context + count])
        for name in ("probability_mean", "probability_std")
    )


def same_bits(store: Path, other: Path) -> bool:
    """Whether two stores hold the same arrays and the same table of instances."""
    killed, undisturbed = VolumeStore(store), VolumeStore(other)
    tables = [(path.parent / "instances.csv").read_bytes() for path in (store, other)]
    return tables[0] == tables[1] and all(
        np.array_equal(killed.array(name)[..., z, :, :], undisturbed.array(name)[..., z, :, :])
        for name in ARRAYS
        for z in range(killed.array(name).shape[-3])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 512), help="z, y, x")
    parser.add_argument("--fibres", type=int, default=480)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--part", action="store_true", help="compare the slices about the kill only; minutes less")
    parser.add_argument("--kill", type=float, default=0.3, help="share of the slices; 0: nothing is killed")
    options = parser.parse_args()
    folder, model = options.folder.resolve(), options.model.resolve()
    store, undisturbed = folder / "killed" / "large.zarr", folder / "undisturbed" / "large.zarr"
    if not (folder / "large" / "truth" / "settings.json").exists():
        write_volume(
            folder / "large", FibreSettings(shape=tuple(options.shape), fibres=options.fibres, seed=options.seed)
        )
    killed = round(options.kill * options.shape[0] / SLAB)
    if killed:
        kill_at(started(folder / "large" / "volume", model, store), store, killed)
    assert started(folder / "large" / "volume", model, store).wait() == 0
    arrays = {name: name for name in ("label", "instance")}
    for name, value in figures_of(store, arrays, folder / "large" / "truth").items():
        print(f"{name}: {value}")
    if options.part:
        first = max(0, (killed - 1) * SLAB - 4)
        same = same_by_itself(folder / "large" / "volume", model, store, folder, first, 2 * SLAB + 8)
        print(f"slices {first} to {first + 2 * SLAB + 7} by themselves have the same bits: {same}")
    elif killed:
        assert started(folder / "large" / "volume", model, undisturbed).wait() == 0
        print(f"an undisturbed run has the same bits: {same_bits(store, undisturbed)}")


if __name__ == "__main__":
    main()
