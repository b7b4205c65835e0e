"""Speed and memory of segment_volume's stages on a generated volume, five SMSNets of about 45,000 weights, random.

    python benchmarks/segment_volume.py                       # 512 x 512 x 512, a third of an hour on two quiet cores
    python benchmarks/segment_volume.py --shape 32 512 512    # per slice the same

Prints, as it goes, slices/s and the time left; at the end the seconds of each stage, and the most memory above the bare
process: the libraries loaded, the model read, and one tile of 64 x 64 answered. Weights do not matter for speed.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from dlsia_core.networks import build_network
from dlsia_core.networks.sparse_ensemble import sparse_ensemble_config
from dlsia_core.segmentation import SegmentationRecipe, answer_tiles
from tasks.segmentation_model import save_segmentation
from tasks.segmenting.decide import label_slabs, place_label
from tasks.segmenting.finish import describe_store, opened_store
from tasks.segmenting.infer import infer_slabs, place_probabilities
from tasks.segmenting.measure import measure_instances
from tasks.segmenting.number import number_slabs, numbered_of, place_instances
from tasks.segmenting.plan import plan_segmentation
from tasks.segmenting.survey import survey_volume
from tasks.settings.segment_volume import InstanceSettings, RuleSettings, SegmentSettings
from tasks.store import VolumeStore
from tasks.workers import Workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 512), help="z, y, x")
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--tile", type=int, nargs=2, help="y, x; the default of segment_volume if not given")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--folder", type=Path, help="where to write, and to leave everything")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_volume(folder / "volume.tif", tuple(options.shape))
        write_model(folder / "model")
        tile = tuple(options.tile) if options.tile else None
        measure(folder, SegmentSettings(tile_shape=tile, device=options.device), Workers(threads=options.threads))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def write_volume(path: Path, shape: tuple[int, ...]) -> None:
    """Noise with straight rods, slice by slice, so that it costs no memory."""
    rng = np.random.default_rng(0)
    rods = rng.uniform(0, shape[1:], (200, 2)), rng.uniform(-0.5, 0.5, (200, 2))
    y, x = np.indices(shape[1:], sparse=True)
    with tifffile.TiffWriter(path) as file:
        for z in range(shape[0]):
            image = rng.normal(90, 20, shape[1:])
            for place, slope in zip(*rods, strict=True):
                row, column = (place + slope * z) % shape[1:]
                low, high = max(0, int(row) - 4), int(row) + 5
                image[low:high] += 80 * (np.hypot(y[low:high] - row, x - column) < 3)
            file.write(image.clip(0, 255).astype("uint8"), contiguous=True)


def write_model(folder: Path) -> None:
    network = build_network(sparse_ensemble_config(1, 2), seed=0)
    recipe = SegmentationRecipe(("background", "fibre"), (128, 128), 16, center=90.0, scale=25.0)
    save_segmentation(folder, network, recipe, "random weights", {})
    answer_tiles(network, recipe, np.zeros((1, 1, 64, 64), np.uint8))


def measure(folder: Path, segment: SegmentSettings, workers: Workers) -> None:
    source, model, store = (str(folder / name) for name in ("volume.tif", "model", "volume.zarr"))
    plan = plan_segmentation(source, model, store, segment, RuleSettings(), InstanceSettings())
    bare, began = peak_mib(), time.monotonic()
    digests = timed("survey", survey_volume.fn, plan, workers)
    with VolumeStore.writing(Path(plan.path)):
        held = opened_store(plan, digests)
        outputs = place_probabilities(plan, held, digests)
        progress = Progress(plan.shape[0])
        slabs = held.slab_ranges()
        timed("infer", infer_slabs.fn, plan, outputs, digests, slabs, workers, progress.advance)
        print(f"  {progress.rate:.3f} slices/s; peak {peak_mib() - bare:.0f} MiB above the bare process")
        label = place_label(plan, held, outputs)
        timed("label", label_slabs.fn, plan, outputs, label, workers)
        instance = place_instances(plan, held, label)
        timed("number", number_slabs.fn, plan, label, instance, workers)
        timed("measure", measure_instances.fn, plan, instance)
        describe_store(plan, held, finished=True)
    written = sum(file.stat().st_size for file in Path(plan.path).rglob("*") if file.is_file())
    print(f"{plan.shape}: {time.monotonic() - began:.1f} s, {numbered_of(instance).total} instances")
    print(f"written {written / 2**20:.0f} MiB, {written / plan.needed_bytes:.2f} of the room that was asked for")
    print(f"bare process {bare:.0f} MiB; peak above it {peak_mib() - bare:.0f} MiB")


class Progress:
    """Slices done, rate and time left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()

    @property
    def rate(self) -> float:
        return self.done / (time.monotonic() - self.started)

    def advance(self, slices: int) -> None:
        self.done += slices
        left = (self.total - self.done) / self.rate
        print(f"  {self.done} of {self.total} slices, {self.rate:.3f} slices/s, {left:.0f} s left", flush=True)


def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    started, used = time.monotonic(), time.process_time()
    found = function(*arguments)
    wall, cpu = time.monotonic() - started, time.process_time() - used
    print(f"{name}: {wall:.2f} s, {cpu:.2f} processor seconds", flush=True)
    return found


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
