"""The numbers depend on frames, settings and model; not on batches, chunks, threads, or where they were computed."""

import os

import numpy as np
import pytest
from distributed import LocalCluster

from tasks.store import ScanStore
from tasks.workers import Workers

N_FRAMES = 36


@pytest.fixture(scope="module")
def source(tmp_path_factory, write_scan):
    folder = tmp_path_factory.mktemp("numbers")
    write_scan(folder, range(N_FRAMES))
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory, source, run_stages, small, trained):
    return run_stages(source, tmp_path_factory.mktemp("reference") / "scan.zarr", small(), model=trained)


@pytest.fixture(scope="module")
def cluster():
    environment = dict(os.environ)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        # It leaves OMP_NUM_THREADS=1 in this process for its children, and trainings on one thread end with other bits.
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        yield cluster.scheduler_address


def assert_same_files(tree, store, reference):
    files, wanted = tree(store), tree(reference)
    assert sorted(files) == sorted(wanted)
    assert [name for name in files if files[name] != wanted[name]] == []


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({"infer": {"batch_size": 1}}, Workers(threads=2)),
        ({"infer": {"batch_size": 64}}, Workers(threads=2)),
        ({"ingest": {"batch_frames": 256}}, Workers(threads=2)),
        ({}, Workers(threads=1)),
        ({}, Workers(threads=5)),
    ],
    ids=["batch 1", "batch 64", "one task run", "1 thread", "5 threads"],
)
def test_how_the_work_is_cut_changes_no_bit(
    tmp_path, source, run_stages, small, trained, reference, tree, changes, workers
):
    run_stages(source, tmp_path / "scan.zarr", small(**changes), model=trained, workers=workers)
    assert_same_files(tree, tmp_path / "scan.zarr", reference.store.path)


def test_a_frames_numbers_do_not_depend_on_the_other_frames(
    tmp_path, run_stages, small, trained, reference, write_scan
):
    numbers = [7, 8, 20]
    write_scan(tmp_path / "raw", numbers)
    found = run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), model=trained, until="stitch").store
    arrays = ("counts", "valid", "normalized", "tiles", "predictions", "inpainted", "provenance")
    for name in (*arrays, "uncertainty", "familiarity", "unfamiliar"):
        wanted = reference.store.read(name, 0, N_FRAMES)[numbers]
        np.testing.assert_array_equal(found.read(name, 0, len(numbers)), wanted)


def test_a_cluster_gives_the_bits_of_threads(tmp_path, source, run_stages, small, trained, reference, tree, cluster):
    run_stages(source, tmp_path / "scan.zarr", small(), model=trained, workers=Workers(scheduler=cluster, window=2))
    assert_same_files(tree, tmp_path / "scan.zarr", reference.store.path)


@pytest.mark.server
def test_the_flow_gives_the_bits_of_its_stages_on_a_cluster_too(
    tmp_path, source, flow_runs, small, trained, reference, tree, cluster
):
    arguments = {"source": source, "store": tmp_path / "scan.zarr", "model": trained, **small()}
    found = flow_runs(**arguments, workers={"scheduler": cluster, "window": 3})
    assert found.get("result", found)["n_frames"] == N_FRAMES
    files, wanted = tree(tmp_path / "scan.zarr"), tree(reference.store.path)
    assert [name for name in wanted if files[name] != wanted[name]] == []
    assert {name.split("/")[0] for name in set(files) - set(wanted)} == {"coordinates", "cluster"}


def test_measured_pixels_come_back_unchanged_and_provenance_tells_the_rest(reference):
    store: ScanStore = reference.store
    normalized, inpainted, origin, predictions = (
        store.read(name, 0, N_FRAMES) for name in ("normalized", "inpainted", "provenance", "predictions")
    )
    measured = np.isfinite(normalized)
    assert inpainted[measured].tobytes() == normalized[measured].tobytes()
    assert (origin == 0).tobytes() == measured.tobytes()
    assert np.array_equal(origin == 2, np.isnan(inpainted))
    assert np.isfinite(predictions).all()
    assert set(np.unique(origin)) == {0, 1, 2}
    assert (origin == 2).mean() < 0.02 < (origin == 1).mean()
