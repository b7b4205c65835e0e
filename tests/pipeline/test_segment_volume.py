"""A volume has the same probabilities, classes, sets and instances however it is cut, killed and resumed."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import xarray
from scipy import ndimage

from dlsia_core.conformal import SetSettings, calibrate_sets, log_probabilities
from dlsia_core.networks import build_network
from dlsia_core.rings import RingFilter
from dlsia_core.segmentation import SegmentationRecipe, segment, sure_label, unpack_sets
from tasks.errors import PipelineError, SettingsError, SourceError, StoreError
from tasks.segmentation_model import load_segmentation, save_segmentation
from tasks.segmenting.decide import label_slabs, place_label, place_sets, set_slabs
from tasks.segmenting.finish import describe_store, opened_store
from tasks.segmenting.infer import infer_slabs, place_probabilities, seen_slices
from tasks.segmenting.measure import measure_instances
from tasks.segmenting.number import number_slabs, numbered_of, place_instances
from tasks.segmenting.plan import plan_segmentation, volume_of
from tasks.segmenting.survey import survey_volume
from tasks.settings.segment_volume import InstanceSettings, RuleSettings, SegmentSettings
from tasks.store import VolumeStore
from tasks.verify import main as verify
from tasks.verify import verify_store
from tasks.workers import Workers

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (11, 36, 30)
NAMES = ("background", "fibre")


def write_model(
    folder: Path, ndim: int = 2, seed: int = 4, calibrated: bool = True, context: int = 0, rings: bool = False
) -> Path:
    """A small ensemble with random weights, its sets calibrated on labels that are half right."""
    member = {"network": "SMSNet", "out_channels": 2, "depth": 4, "hidden_channels": 2, "ndim": ndim}
    member |= {"in_channels": 2 * context + 1}
    members = [{**member, "graph_seed": number, "dilations": [1, 2, 3]} for number in range(3)]
    network = build_network({"network": "Ensemble", "members": members}, seed=seed)
    tile = (20, 20) if ndim == 2 else (8, 20, 20)
    recipe = SegmentationRecipe(NAMES, tile, 3, center=100.0, scale=30.0, context=context)
    calibration = "nothing was held out"
    if calibrated:
        rng = np.random.default_rng(seed)
        images = rng.normal(100, 30, (8, 24, 24))
        mean = segment(network, replace(recipe, tile_shape=(24, 24)), images).mean.swapaxes(0, 1)
        label = np.where(rng.random((8, 24, 24)) < 0.5, mean.argmax(1), rng.integers(0, 2, (8, 24, 24)))
        calibration = calibrate_sets(log_probabilities(mean, axis=1), label, SetSettings(coverage=0.8))
    trained_on = {"rings": {"center": [18.0, 15.0], "width": 25} if rings else None}
    save_segmentation(folder, network, recipe, calibration, {"trained_on": trained_on})
    return folder


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """Noise, smoothed so that the classes hang together."""
    noise = np.random.default_rng(0).normal(size=SHAPE)
    return (100 + 90 * ndimage.gaussian_filter(noise, 1)).clip(0, 255).astype("uint8")


@pytest.fixture(scope="module")
def source(tmp_path_factory, volume) -> Path:
    path = tmp_path_factory.mktemp("volume") / "volume.tif"
    tifffile.imwrite(path, volume)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "flat")


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "deep", ndim=3, calibrated=False)


def run_stages(source, model, store, *, segment=None, rule=None, instances=None, workers=Workers(threads=2)):
    """The stages of segment_volume, one after the other, without a Prefect server; what each of them computed."""
    volume_of.cache_clear()
    tiles = {"device": "cpu", "tile_shape": (20, 20), **(segment or {})}
    counted = {"min_voxels": 1, "split": None, **(instances or {})}
    plan = plan_segmentation(
        str(source), str(model), str(store), SegmentSettings(**tiles), RuleSettings(**(rule or {})),
        InstanceSettings(**counted),
    )  # fmt: skip
    digests = survey_volume.fn(plan, workers)
    with VolumeStore.writing(Path(plan.path)):
        held = opened_store(plan, digests)
        found = SimpleNamespace(plan=plan, store=held, runs=[], sets=None)
        found.probabilities = place_probabilities(plan, held, digests)
        found.runs.append(infer_slabs.fn(plan, found.probabilities, digests, held.slab_ranges(), workers))
        found.label = place_label(plan, held, found.probabilities)
        found.runs.append(label_slabs.fn(plan, found.probabilities, found.label, workers))
        if plan.has_sets:
            found.sets = place_sets(plan, held, found.probabilities[0])
            found.runs.append(set_slabs.fn(plan, found.probabilities[0], found.sets, workers))
        found.instance = place_instances(plan, held, found.label)
        found.runs.append(number_slabs.fn(plan, found.label, found.instance, workers))
        found.table = Path(measure_instances.fn(plan, found.instance))
        describe_store(plan, held, finished=True)
    found.store = VolumeStore(Path(plan.path))
    return found


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, source, model):
    return run_stages(source, model, tmp_path_factory.mktemp("segmented") / "v.zarr", segment={"slab_slices": 4})


@pytest.fixture
def results(tree):
    """The bytes of all files, but for who held the lock and when slabs were committed."""
    return lambda folder: {name: held for name, held in tree(folder).items() if "/ledger/" not in name}


def arrays(found) -> dict[str, np.ndarray]:
    return {name: array[...] for name, array in found.store.arrays().items()}


# The numbers are those of the library


def test_probabilities_are_those_of_the_library_whatever_the_slabs(segmented, model, volume):
    known = load_segmentation(model)
    wanted = segment(known.network, known.recipe, volume)
    found = arrays(segmented)
    np.testing.assert_array_equal(found["probability_mean"], wanted.mean.astype(np.float16))
    np.testing.assert_array_equal(found["probability_std"], wanted.std.astype(np.float16))
    assert wanted.std.max() > 0.01


def test_label_and_sets_can_be_made_again_from_what_is_stored(segmented, model):
    found = arrays(segmented)
    mean, std = (found[name].astype(np.float32) for name in ("probability_mean", "probability_std"))
    np.testing.assert_array_equal(found["label"], mean[1] - std[1] > 0.5)
    assert 0.02 < found["label"].mean() < 0.98
    np.testing.assert_array_equal(
        unpack_sets(found["conformal_set"], 2), load_segmentation(model).sets(mean).reshape(2, *SHAPE)
    )
    assert set(np.unique(found["conformal_set"])) == {1, 2, 3}


def test_instances_are_the_components_of_the_label(segmented):
    found = arrays(segmented)
    wanted, count = ndimage.label(found["label"] == 1, np.ones((3, 3, 3)))
    assert numbered_of(segmented.instance).total == count == found["instance"].max()
    np.testing.assert_array_equal(found["instance"] > 0, wanted > 0)
    pairs = set(zip(found["instance"].ravel().tolist(), wanted.ravel().tolist(), strict=True))
    assert len(pairs) == count + 1, "each instance is one component"


def test_the_table_holds_every_instance_once(segmented):
    assert segmented.table == segmented.store.path.parent / "instances.csv"
    with segmented.table.open() as file:
        rows = list(csv.DictReader(file))
    instance = arrays(segmented)["instance"]
    assert [int(row["instance"]) for row in rows] == list(range(1, int(instance.max()) + 1))
    assert [int(row["voxels"]) for row in rows] == np.bincount(instance.ravel())[1:].tolist()
    assert {row["class"] for row in rows} == {"fibre"}
    place = ndimage.center_of_mass(instance > 0, instance, range(1, len(rows) + 1))
    found = [[float(row[f"{axis}_px"]) for axis in "zyx"] for row in rows]
    np.testing.assert_allclose(found, place, rtol=1e-5)


def test_xarray_shows_names_and_units(tmp_path, source, model):
    found = run_stages(source, model, tmp_path / "v.zarr", segment={"voxel_size": (2.0, 0.5, 0.5)})
    data = xarray.open_zarr(tmp_path / "v.zarr", consolidated=False)
    assert data.probability_mean.dims == ("class", "z", "y", "x")
    assert data.instance.dims == data.label.dims == ("z", "y", "x")
    assert data["class"].values.tolist() == list(NAMES)
    assert (float(data.z[3]), data.z.attrs["units"], float(data.x[-1])) == (6.0, "µm", 0.5 * 29)
    np.testing.assert_array_equal(data.label, arrays(found)["label"])
    header, first = found.table.read_text().splitlines()[:2]
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["volume_um3"]) == pytest.approx(0.5 * int(row["voxels"]))
    assert float(row["z_um"]) == pytest.approx(2 * float(row["z_px"]))
    kept = run_stages(source, model, tmp_path / "v.zarr")
    assert kept.table.read_text().splitlines()[0] == header, "a size that is not given again is not forgotten"
    assert sum(run.computed_frames for run in kept.runs) == 0


# Neither slabs, nor workers, nor the order of tiles


@pytest.mark.parametrize(("slab", "threads"), [(1, 1), (5, 3), (11, 1)])
def test_the_same_bits_for_any_slab_and_any_number_of_threads(tmp_path, source, model, segmented, slab, threads):
    other = run_stages(
        source, model, tmp_path / "v.zarr", segment={"slab_slices": slab}, workers=Workers(threads=threads)
    )
    for name, values in arrays(segmented).items():
        np.testing.assert_array_equal(arrays(other)[name], values, err_msg=name)
    assert other.table.read_bytes() == segmented.table.read_bytes()


def test_networks_of_volumes_with_tiles_thicker_than_slabs(tmp_path, source, deep_model, volume):
    known = load_segmentation(deep_model)
    wanted = segment(known.network, known.recipe, volume)
    for slab, threads in ((2, 2), (11, 1), (5, 1)):
        store = tmp_path / f"{slab}.zarr"
        tiles = {"slab_slices": slab, "tile_shape": (8, 20, 20)}
        found = run_stages(source, deep_model, store, segment=tiles, workers=Workers(threads=threads))
        np.testing.assert_array_equal(arrays(found)["probability_mean"], wanted.mean.astype(np.float16))
        np.testing.assert_array_equal(arrays(found)["probability_std"], wanted.std.astype(np.float16))
        assert found.sets is None


def test_networks_that_see_the_slices_above_and_below(tmp_path, source, volume):
    model = write_model(tmp_path / "model", context=2)
    known = load_segmentation(model)
    wanted = segment(known.network, known.recipe, volume)
    for slab, threads in ((1, 2), (4, 1), (11, 3)):
        found = run_stages(
            source, model, tmp_path / f"{slab}.zarr", segment={"slab_slices": slab}, workers=Workers(threads=threads)
        )
        np.testing.assert_array_equal(arrays(found)["probability_mean"], wanted.mean.astype(np.float16))
        np.testing.assert_array_equal(arrays(found)["probability_std"], wanted.std.astype(np.float16))
    seen = seen_slices(found.plan, survey_volume.fn(found.plan, Workers()))
    assert [len(slices) for slices in seen] == [11]
    assert [len(slices) for slices in seen_slices(replace(found.plan, slab_slices=4), tuple("0123456789a"))] == [
        6,
        8,
        5,
    ]


# Rings


@pytest.fixture(scope="module")
def ringed(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Slices with rings about row 46.5, column 51, and the file that they are in."""
    distance = np.hypot(np.arange(96)[:, None] - 46.5, np.arange(100)[None, :] - 51.0)
    radii = (9, 14, 23, 29, 41)
    rings = sum((-1) ** k * np.exp(-(((distance - radius) / 1.2) ** 2) / 2) for k, radius in enumerate(radii))
    noise = np.random.default_rng(0).normal(size=(7, 96, 100))
    volume = (100 + 20 * (ndimage.gaussian_filter(noise, (0, 0.7, 0.7)) + rings)).astype(np.uint8)
    path = tmp_path_factory.mktemp("ringed") / "volume.tif"
    tifffile.imwrite(path, volume)
    return path, volume


@pytest.mark.parametrize(("slab", "threads"), [(2, 1), (3, 2), (7, 2)])
def test_rings_are_taken_out_as_the_library_does_if_the_model_has_not_seen_any(tmp_path, ringed, slab, threads):
    path, volume = ringed
    model = write_model(tmp_path / "model", context=1, rings=True)
    cut = {"tile_shape": None, "slab_slices": slab}
    found = run_stages(path, model, tmp_path / "v.zarr", segment=cut, workers=Workers(threads=threads))
    known, clean = load_segmentation(model), RingFilter((46.5, 51.0), 25)  # the width is that of the training
    assert found.plan.rings == clean
    filtered = np.stack([clean.without_rings(pixels) for pixels in volume])
    wanted = segment(known.network, replace(known.recipe, tile_shape=(512, 512)), filtered)
    np.testing.assert_array_equal(arrays(found)["probability_mean"], wanted.mean.astype(np.float16))
    origin = found.store.array("probability_mean").attrs["origin"]
    assert origin["rings"] == {"center": [46.5, 51.0], "width": 25}


def plan_rings(source, model, folder, rings):
    segment = SegmentSettings(device="cpu", rings=rings)
    plan = plan_segmentation(
        str(source), str(model), str(folder / "v.zarr"), segment, RuleSettings(), InstanceSettings()
    )
    return plan.rings


def test_other_rings_are_other_results_and_those_without_keep_their_names(tmp_path, ringed, model):
    path, _ = ringed
    left = run_stages(path, model, tmp_path / "v.zarr", segment={"tile_shape": None})
    assert left.plan.rings is None
    assert "rings" not in left.store.array("probability_mean").attrs["origin"]
    assert plan_rings(path, model, tmp_path, {"remove": True}).width == 31
    for rings in ({"remove": True}, {"center": (46.5, 50.0)}, {"remove": True, "width": 21}):
        taken = run_stages(path, model, tmp_path / "v.zarr", segment={"tile_shape": None, "rings": rings})
        assert taken.probabilities[0].path != "probability_mean"
        assert sum(run.computed_frames for run in taken.runs) == 7 * len(taken.runs)
    assert len([name for name in taken.store.arrays() if name.endswith("probability_mean")]) == 4


def test_where_no_rings_stand_out_they_are_left_or_asked_for(tmp_path, source, caplog):
    model = write_model(tmp_path / "model", rings=True)
    assert [plan_rings(source, model, tmp_path, rings) for rings in ({}, {"remove": False})] == [None, None]
    assert caplog.text.count("are left as they are") == 1
    with pytest.raises(SourceError, match=r"no ring artifacts stand out .* give the axis .*rings.center"):
        run_stages(source, model, tmp_path / "v.zarr", segment={"rings": {"remove": True}})
    with pytest.raises(SettingsError, match="outside of slices of 36 x 30 px"):
        run_stages(source, model, tmp_path / "v.zarr", segment={"rings": {"center": (1e9, 3)}})
    with pytest.raises(ValueError, match="leave one of them out"):
        SegmentSettings(rings={"remove": False, "center": (1, 2)})
    with pytest.raises(ValueError, match="give an odd number"):
        SegmentSettings(rings={"width": 30})


def test_wider_tiles_than_the_model_was_trained_on_are_the_default(tmp_path, source, model, volume):
    found = run_stages(source, model, tmp_path / "v.zarr", segment={"tile_shape": None})
    known = load_segmentation(model)
    wanted = segment(known.network, replace(known.recipe, tile_shape=(512, 512)), volume)
    np.testing.assert_array_equal(arrays(found)["probability_mean"], wanted.mean.astype(np.float16))


# Resume


def test_run_again_nothing_is_computed_and_no_file_changes(tmp_path, source, model, results):
    run_stages(source, model, tmp_path / "v.zarr", segment={"slab_slices": 4})
    before = results(tmp_path)
    again = run_stages(source, model, tmp_path / "v.zarr")  # the slabs are as the store has them
    assert sum(run.computed_frames for run in again.runs) == 0
    assert results(tmp_path) == before
    assert verify_store(tmp_path / "v.zarr").is_green


def test_a_slab_that_is_lost_is_computed_again_and_nothing_else(tmp_path, source, model, results):
    found = run_stages(source, model, tmp_path / "v.zarr", segment={"slab_slices": 4})
    before = results(tmp_path)
    found.store.slab_path("probability_std", 2).unlink()
    assert verify([str(tmp_path / "v.zarr")]) == 1
    again = run_stages(source, model, tmp_path / "v.zarr")
    assert [run.computed_frames for run in again.runs] == [3, 0, 0, 0]
    assert results(tmp_path) == before
    assert verify([str(tmp_path / "v.zarr")]) == 0


def test_a_damaged_slab_is_found_out(tmp_path, source, model):
    found = run_stages(source, model, tmp_path / "v.zarr", segment={"slab_slices": 4})
    file = found.store.slab_path("label", 1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert [line.split(":")[0] for line in verify_store(tmp_path / "v.zarr").wrong] == ["label slab 1"]


def test_another_rule_is_written_beside_and_asks_no_network(tmp_path, source, model):
    first = run_stages(source, model, tmp_path / "v.zarr")
    before = arrays(first)
    second = run_stages(source, model, tmp_path / "v.zarr", rule={"k": 0.0, "threshold": 0.3})
    assert [run.computed_frames for run in second.runs] == [0, 11, 0, 11]
    assert second.label.path.startswith("settings-")
    assert second.instance.path.startswith("settings-")
    now = arrays(second)
    for name, values in before.items():
        np.testing.assert_array_equal(now[name], values)
    mean, std = (now[name] for name in ("probability_mean", "probability_std"))
    np.testing.assert_array_equal(now[second.label.path], sure_label(mean, std, 0.0, 0.3))
    assert second.table != first.table
    assert first.table.exists()
    assert second.table.exists()


def test_another_model_is_written_beside(tmp_path, source, model):
    first = run_stages(source, model, tmp_path / "v.zarr")
    before = arrays(first)
    second = run_stages(source, write_model(tmp_path / "other", seed=5), tmp_path / "v.zarr")
    assert all(array.path.startswith("settings-") for array in (*second.probabilities, second.label, second.sets))
    now = arrays(second)
    assert all((now[name] == values).all() for name, values in before.items())
    assert not np.array_equal(now[second.probabilities[0].path], before["probability_mean"])


def test_two_stores_in_one_folder_keep_their_tables(tmp_path, source, model):
    tables = [run_stages(source, model, tmp_path / f"{name}.zarr").table.name for name in ("a", "b")]
    assert tables == ["instances.csv", "b.instances.csv"]
    again = [run_stages(source, model, tmp_path / f"{name}.zarr").table.name for name in ("b", "a")]
    assert again == tables[::-1]


# Refused before any work


def refuse(tmp_path, error, match, **changed):
    given = {
        "source": tmp_path / "none.tif",
        "model": tmp_path / "none",
        "store": tmp_path / "out" / "v.zarr",
    } | changed
    with pytest.raises(error, match=match) as raised:
        run_stages(**given)
    assert isinstance(raised.value, PipelineError)
    assert not (tmp_path / "out").exists()


def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, source, model, deep_model, volume):
    good = {"source": source, "model": model}
    refuse(tmp_path, SettingsError, "no usable model in", source=source)
    refuse(tmp_path, SourceError, "none.tif", model=model)
    refuse(
        tmp_path, SettingsError, "tile_shape is .* the model looks at 2 axes", **good, segment={"tile_shape": (8, 8, 8)}
    )
    refuse(tmp_path, SettingsError, "leaves nothing of them", **good, segment={"tile_shape": (6, 16)})
    refuse(
        tmp_path,
        SettingsError,
        "rule.background is 'fiber'; .* background, fibre",
        **good,
        rule={"background": "fiber"},
    )
    refuse(
        tmp_path, SettingsError, "instances.classes names 'background'", **good, instances={"classes": ("background",)}
    )
    tifffile.imwrite(tmp_path / "one.tif", volume[0])
    wide = {"tile_shape": (8, 20, 20)}
    refuse(tmp_path, SourceError, "is one slice", source=tmp_path / "one.tif", model=deep_model, segment=wide)
    tifffile.imwrite(tmp_path / "nan.tif", np.where(volume == volume.max(), np.nan, volume).astype("float32"))
    refuse(tmp_path, SourceError, "pixels of slice .* are no finite numbers", source=tmp_path / "nan.tif", model=model)


def test_slices_that_are_missing_are_refused(tmp_path, model, volume):
    (tmp_path / "slices").mkdir()
    for number in (0, 1, 3):
        tifffile.imwrite(tmp_path / "slices" / f"slice_{number:03d}.tif", volume[number])
    refuse(tmp_path, SourceError, "not contiguous: 3 after 1", source=tmp_path / "slices", model=model)


def test_networks_that_take_other_images_are_refused(tmp_path, source):
    network = build_network(
        {"network": "TUNet", "in_channels": 3, "out_channels": 2, "depth": 2, "base_channels": 2}, 0
    )
    save_segmentation(tmp_path / "rgb", network, SegmentationRecipe(NAMES, (16, 16), 2, 0.0, 1.0), "none", {})
    refuse(tmp_path, SettingsError, "in_channels = 3, wanted 1", source=source, model=tmp_path / "rgb")
    network = build_network(
        {"network": "TUNet", "in_channels": 1, "out_channels": 2, "depth": 2, "base_channels": 2}, 0
    )
    save_segmentation(tmp_path / "flat", network, SegmentationRecipe(NAMES, (8, 8, 8), 2, 0.0, 1.0), "none", {})
    wide = {"tile_shape": (8, 8, 8)}
    refuse(tmp_path, SettingsError, "ndim = 2, wanted 3", source=source, model=tmp_path / "flat", segment=wide)


def test_a_volume_larger_than_the_disk_is_refused(tmp_path, source, model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    refuse(tmp_path, SettingsError, "may need 0.0 GiB more .* make room", source=source, model=model)


def test_a_store_of_something_else_is_refused(tmp_path, source, model, volume):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("no store")
    with pytest.raises(StoreError, match="no volume store at"):
        run_stages(source, model, tmp_path / "thesis")
    run_stages(source, model, tmp_path / "v.zarr")
    with pytest.raises(StoreError, match="holds results for slab_slices = 11, the run has 4"):
        run_stages(source, model, tmp_path / "v.zarr", segment={"slab_slices": 4})
    tifffile.imwrite(tmp_path / "other.tif", volume[::-1])
    with pytest.raises(StoreError, match="holds results for source_digest"):
        run_stages(tmp_path / "other.tif", model, tmp_path / "v.zarr")
    with VolumeStore.writing(tmp_path / "v.zarr"), pytest.raises(StoreError, match="is being written by another run"):
        run_stages(source, model, tmp_path / "v.zarr")


# Memory, kills


PEAK = """
import json, resource, runpy, sys
from pathlib import Path
test, model, sources = sys.argv[1], sys.argv[2], sys.argv[3:]
run_stages = runpy.run_path(test)["run_stages"]
peaks = []
for source in sources:
    run_stages(source, model, Path(source).with_suffix(".zarr"), segment={"tile_shape": None, "slab_slices": 2})
    peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


def test_memory_does_not_grow_with_the_depth(tmp_path, model):
    side, depths = 128, (8, 32)
    for depth in depths:
        image = np.random.default_rng(depth).normal(100, 30, (depth, side, side)).clip(0, 255).astype("uint8")
        tifffile.imwrite(tmp_path / f"{depth}.tif", image)
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(Path(__file__)), str(model)]
    command += [str(tmp_path / f"{depth}.tif") for depth in depths]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    shallow, deep = json.loads(output.stdout.splitlines()[-1])
    # Held in memory, the probabilities of 24 slices more would be 3.1 MB as stored, and 6.3 MB as float32.
    assert deep - shallow < 3e6


@pytest.mark.slow  # ten runs of the flow
@pytest.mark.timeout(900)
@pytest.mark.server
def test_a_volume_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path, source, model, flow_runs, results):
    arguments = {
        "flow": "segment_volume", "source": source, "model": model,
        "segment": {"slab_slices": 1, "tile_shape": [20, 20], "device": "cpu"}, "instances": {"min_voxels": 3},
    }  # fmt: skip
    undisturbed = flow_runs(**arguments, store=tmp_path / "undisturbed" / "v.zarr")
    assert undisturbed["status"] == 0, undisturbed
    wanted, rng, killed = results(tmp_path / "undisturbed"), random.Random(0), 0
    ledger = tmp_path / "killed" / "v.zarr" / "ledger" / "shards.jsonl"
    for goal in (1, 3, 9, 13, 21, 26, 34, 45):
        process = flow_runs.start(**arguments, store=tmp_path / "killed" / "v.zarr")
        while lives(process) and commits(ledger) < goal:
            time.sleep(0.0005)
        time.sleep(rng.choice([0, 0.001, 0.005, 0.02]))
        if lives(process):
            os.kill(process, signal.SIGKILL)
        killed += flow_runs.ended()["status"] == -signal.SIGKILL
    assert flow_runs(**arguments, store=tmp_path / "killed" / "v.zarr")["status"] == 0
    assert killed >= 5
    found = results(tmp_path / "killed")
    assert sorted(found) == sorted(wanted)
    assert [name for name in found if found[name] != wanted[name]] == []
    assert verify([str(tmp_path / "killed" / "v.zarr")]) == 0
    result = undisturbed["result"]
    assert (result["shape"], result["n_instances"]) == (list(SHAPE), numbered_total(wanted))


def numbered_total(files: dict[str, bytes]) -> int:
    return files["instances.csv"].count(b"\n") - 1


def commits(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
