"""The report of instances tells what is in the store, and a truth is compared with in the unit that it is in."""

import csv
from pathlib import Path

import numpy as np
import pytest

from dlsia_core.instances import InstanceTable, instance_table, ks_distance
from flows.report_instances import _finished
from tasks.errors import SourceError, StoreError
from tasks.report_instances import InstanceFacts, read_truth, write_instance_report
from tasks.segmenting.describe import describe_instances, page_of
from tasks.segmenting.slabs import SlabArray
from tasks.store import VolumeStore
from tasks.store.volume_store import VolumeArray

SHAPE = (20, 24, 40)
LENGTHS = (12, 18, 30)
FOUND = {"classes": ["fibre"], "instances": [3], "dust": [0], "unsplit": [1], "lineage": "l"}


def bars() -> np.ndarray:
    """Three bars along x, of known lengths."""
    labels = np.zeros(SHAPE, np.uint32)
    for number, length in enumerate(LENGTHS, start=1):
        labels[5 * number : 5 * number + 2, 6 * number : 6 * number + 2, 4 : 4 + length] = number
    return labels


@pytest.fixture
def instance(tmp_path) -> SlabArray:
    store = VolumeStore.create(tmp_path / "v.zarr", {"volume_shape": list(SHAPE), "slab_slices": 8})
    store.describe({"voxel_size": [2.0, 2.0, 2.0], "voxel_unit": "µm"})
    store.require_array("instance", VolumeArray("instance", "uint32", 0, attributes=FOUND))
    for slab, start, stop in store.slab_ranges():
        store.commit("instance", slab, "l", store.write_slab("instance", slab, bars()[start:stop]))
    return SlabArray(str(store.path), "instance", "l")


def truth_file(folder: Path, lengths: list[float]) -> Path:
    path = folder / "truth.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "length_end_to_end_px"), *enumerate(lengths, start=1)])
    return path


def test_the_page_and_its_figures_are_those_of_the_store(tmp_path, instance) -> None:
    truth = truth_file(tmp_path, [12.0, 13.0, 18.0, 31.0])
    written = describe_instances.fn(instance, 5, str(truth))
    figures = {row["figure"]: row["value"] for row in written.figures}
    assert figures["instances"] == 3
    assert figures["median length"] == 18
    assert figures["mean direction (z, y, x)"] == "0.00, 0.00, 1.00"
    assert figures["order (0 none, 1 parallel)"] == 1
    expected = ks_distance(np.array(LENGTHS, float), np.array([12.0, 13.0, 18.0, 31.0]))
    assert figures["Kolmogorov-Smirnov distance of lengths"] == pytest.approx(expected, abs=1e-4)
    assert figures["foreground"] == pytest.approx(100 * 4 * sum(LENGTHS) / np.prod(SHAPE), abs=1e-3)
    assert Path(written.report) == page_of(instance) == tmp_path / "v.instances.html"
    page = Path(written.report).read_text()
    assert "3 instances, median length 18 px (36 µm)" in page
    assert "1 components of class fibre were too large" in page
    assert page.count("<img") == 3
    assert 'src="http' not in page
    describe_instances.fn(instance, 5, str(truth))
    assert Path(written.report).read_text() == page


def test_a_thin_volume_is_described_without_what_it_cannot_have(instance) -> None:
    written = describe_instances.fn(instance, 30)
    page = Path(written.report).read_text()
    assert "has no pairs 30 voxels apart" in page
    assert page.count("<img") == 2


def test_a_volume_without_instances_has_a_page(tmp_path) -> None:
    empty: InstanceTable = instance_table(lambda a, b: np.zeros((b - a, 4, 4), int), 3, 0)
    facts = InstanceFacts("nothing", empty, no_autocorrelation="0 % are foreground", truth_px=np.ones(2))
    written = write_instance_report(facts, tmp_path / "page.html")
    assert written.verdict == "no instance in nothing"
    assert written.figures == ({"figure": "instances", "value": 0, "unit": ""},)


def test_voxels_that_are_no_cubes_give_no_median_in_units(tmp_path) -> None:
    labels = bars()
    table = instance_table(lambda a, b: labels[a:b], SHAPE[0], 3, voxel_size=(4.0, 1.0, 0.5))
    page = Path(write_instance_report(InstanceFacts("v", table, "µm"), tmp_path / "page.html").report).read_text()
    assert "median length 18 px<" in page
    assert "length end to end (px)" not in page  # that is in the picture
    assert "length (µm)" in page


def test_a_truth_that_is_none_is_refused(tmp_path) -> None:
    path = truth_file(tmp_path, [1.0])
    with pytest.raises(SourceError, match="has no column 'length'; its columns are id, length_end_to_end_px"):
        read_truth(path, "length")
    with pytest.raises(SourceError, match="holds 0 lengths"):
        read_truth(truth_file(tmp_path, []))
    with pytest.raises(SourceError, match="cannot be read as a table"):
        read_truth(tmp_path / "missing.csv")
    path.write_text("length_end_to_end_px\nlong\n")
    with pytest.raises(SourceError, match="could not convert"):
        read_truth(path)


def test_a_store_that_is_not_finished_is_refused(instance) -> None:
    assert _finished(Path(instance.store), "instance") == instance
    with pytest.raises(StoreError, match="no array of instances named 'label'; it holds instance"):
        _finished(Path(instance.store), "label")
    store = VolumeStore(Path(instance.store))
    store.void("instance", 1)
    with pytest.raises(StoreError, match="1 of 3 slabs of 'instance'"):
        _finished(Path(instance.store), "instance")
