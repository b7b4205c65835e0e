"""Other settings write beside the first results, never over them; every reader can open all of it."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray
from safetensors import safe_open

from tasks.readers import ValidityRule
from tasks.settings.ingest import IngestSettings
from tasks.store import ScanStore
from tasks.verify import verify_store

BEHIND_STITCH = {"inpainted", "provenance", "uncertainty", "latent", "coordinates", "cluster"}
BEHIND_TILE = {"tiles", "familiarity", "unfamiliar", "predictions"} | BEHIND_STITCH
CHANGES = {
    "step": ({"tile": {"step": [64, 32]}}, BEHIND_TILE),
    "window": ({"stitch": {"window": "hann"}}, BEHIND_STITCH),
    "shape": (
        {"normalize": {"shape": [48, 40]}, "tile": {"shape": [48, 20], "step": [48, 10]}},
        {"normalized", "row", "column"} | BEHIND_TILE,
    ),
    "rule": (
        {"ingest": {"validity": {"saturation": 40}}},
        {"valid", "normalized", "row", "column"} | BEHIND_TILE,
    ),
}
"""Other settings, and the arrays that they make anew."""
DIMENSIONS = {
    "counts": ("frame", "y", "x"), "valid": ("frame", "y", "x"), "normalized": ("frame", "row", "column"),
    "tiles": ("frame", "tile", "tile_row", "tile_column"), "predictions": ("frame", "tile", "tile_row", "tile_column"),
    "inpainted": ("frame", "row", "column"), "provenance": ("frame", "row", "column"),
    "uncertainty": ("frame", "row", "column"), "familiarity": ("frame",), "unfamiliar": ("frame",),
    "latent": ("frame", "latent_component"), "coordinates": ("frame", "axis"), "cluster": ("frame",),
}  # fmt: skip
N_FRAMES = 20


@pytest.fixture(scope="module")
def results(tmp_path_factory, flow_runs, write_scan, small, tree):
    """A store with the first results and those of three other settings, and what it held after each run."""
    folder = tmp_path_factory.mktemp("beside")
    write_scan(folder / "raw", range(N_FRAMES))
    arguments = {"source": folder / "raw", "store": folder / "scan.zarr"}
    reports = {"first": flow_runs(**arguments, **small())["result"]["report"]}
    trees = {"first": tree(folder / "scan.zarr")}
    for name, (changes, _) in CHANGES.items():
        reports[name] = flow_runs(**arguments, **small(**changes))["result"]["report"]
        trees[name] = tree(folder / "scan.zarr")
    return arguments, trees, reports


@pytest.mark.server
def test_other_settings_write_beside_and_change_nothing(results):
    _, trees, reports = results
    for before, after in pairwise(trees):
        assert [name for name in trees[before] if trees[after].get(name) != trees[before][name]] == []
        new = {name.split("/")[0] for name in set(trees[after]) - set(trees[before])} - {"models"}
        [group] = new
        assert group.startswith("settings-")
        arrays = {name.split("/")[1] for name in set(trees[after]) - set(trees[before]) if name.startswith(group)}
        assert arrays - {"zarr.json"} == CHANGES[after][1]
        assert reports[after].endswith(f"/scan.{group}.report.html")
    assert reports["first"].endswith("/scan.report.html")
    assert len(set(reports.values())) == len(reports)


@pytest.mark.server
def test_a_group_says_which_settings_made_it(results, small):
    arguments, _, reports = results
    for name, (changes, _) in CHANGES.items():
        group = json.loads((Path(arguments["store"]) / reports[name].split(".")[-3] / "zarr.json").read_text())
        for stage, values in ({"validity": {"saturation": 40}} if name == "rule" else changes).items():
            assert values.items() <= group["attributes"]["settings"][stage].items()


@pytest.mark.server
def test_going_back_finds_every_result(results, flow_runs, small, tree):
    arguments, trees, reports = results
    ledger = Path(arguments["store"]) / "ledger" / "shards.jsonl"
    lines = ledger.read_bytes()
    for name in ("first", "window"):
        changes = CHANGES[name][0] if name in CHANGES else {}
        found = flow_runs(**arguments, **small(**changes))["result"]
        assert found["report"] == reports[name]
        assert tree(Path(arguments["store"])) == trees["rule"]
    assert ledger.read_bytes() == lines
    assert verify_store(arguments["store"], deep=True).is_green


@pytest.mark.server
def test_another_rule_gives_what_a_store_made_with_it_has(results, ingest_all, tmp_path):
    arguments, _, reports = results
    rule = ValidityRule(saturation=40)
    fresh = ingest_all(arguments["source"], tmp_path / "fresh.zarr", IngestSettings(validity=rule, batch_frames=16))
    beside = ScanStore(arguments["store"]).read(f"{reports['rule'].split('.')[-3]}/valid", 0, N_FRAMES)
    np.testing.assert_array_equal(beside, fresh.read("valid", 0, N_FRAMES))
    assert (beside != ScanStore(arguments["store"]).read("valid", 0, N_FRAMES)).any()


@pytest.mark.server
def test_a_store_is_processed_without_its_files(results, flow_runs, small, tree, tmp_path):
    arguments, _, reports = results
    alone = tmp_path / "alone.zarr"
    shutil.copytree(arguments["store"], alone)
    shutil.rmtree(alone / reports["window"].split(".")[-3])
    found = flow_runs(source=alone, store=alone, **small(stitch={"window": "hann"}))["result"]
    assert found["n_frames"] == N_FRAMES
    group = found["report"].split(".")[-3]
    for name in ("inpainted", "provenance"):
        np.testing.assert_array_equal(
            ScanStore(alone).read(f"{group}/{name}", 0, N_FRAMES),
            ScanStore(arguments["store"]).read(f"{group}/{name}", 0, N_FRAMES),
        )
    assert verify_store(alone).is_green


@pytest.mark.server
def test_how_a_result_is_computed_is_no_other_setting(results, flow_runs, small, tree):
    arguments, trees, _ = results
    other = small(infer={"batch_size": 3}, ingest={"batch_frames": 32}, train={"max_minutes": 5})
    flow_runs(**arguments, **other, workers={"threads": 1})
    new = set(tree(Path(arguments["store"]))) - set(trees["rule"])
    assert not [name for name in new if not name.startswith("models/")]


@pytest.mark.server
def test_any_reader_can_open_the_results(results):
    store = Path(results[0]["store"])
    with xarray.open_zarr(store, consolidated=False) as scan:
        assert {name: scan[name].dims for name in DIMENSIONS} == DIMENSIONS
        assert dict(scan.sizes) == {
            "frame": N_FRAMES, "y": 128, "x": 160, "row": 64, "column": 64, "tile": 3, "tile_row": 64,
            "tile_column": 32, "latent_component": 4, "axis": 2,
        }  # fmt: skip
        assert {"frame", "frame_name", "frame_number", "y", "x", "row", "column"} <= set(scan.coords)
        assert list(scan.frame_name.values[:2]) == ["scan_0000.cbf", "scan_0001.cbf"]
        assert scan.row.attrs["units"] == "pixel"
        assert scan.counts.dtype == np.int32
        assert scan.valid.dtype == bool
        assert scan.cluster.dtype == np.int64
        np.testing.assert_array_equal(scan.inpainted.values, ScanStore(store).read("inpainted", 0, N_FRAMES))
    for group in sorted(path.name for path in store.glob("settings-*")):
        with xarray.open_zarr(store, group=group, consolidated=False) as scan:
            assert {name: scan[name].dims for name in scan.data_vars} == {
                name: DIMENSIONS[str(name)] for name in scan.data_vars
            }
            assert "inpainted" in scan


@pytest.mark.server
def test_nothing_in_a_store_is_pickled(results):
    store = Path(results[0]["store"])
    codecs, types = set(), set()
    for file in store.rglob("*"):
        inside_array = any(parent.name == "c" for parent in file.parents)
        assert (
            file.is_dir() or inside_array or file.suffix in {".json", ".jsonl", ".safetensors"} or file.name == "lock"
        )
    for metadata in [json.loads(path.read_text()) for path in store.rglob("zarr.json")]:
        codecs |= set(codec_names(metadata.get("codecs", [])))
        types.add(json.dumps(metadata.get("data_type")))
    assert codecs == {"sharding_indexed", "bytes", "blosc", "crc32c", "zstd", "vlen-utf8"}
    assert types <= {
        "null",
        *(f'"{name}"' for name in ("int32", "int64", "bool", "float32", "float64", "uint8", "string")),
    }
    for weights in store.rglob("*.safetensors"):
        with safe_open(weights, framework="np") as file:
            assert len(list(file.keys()))


def codec_names(codecs) -> list[str]:
    names = []
    for codec in codecs:
        names.append(codec["name"])
        configuration = codec.get("configuration", {})
        names += codec_names(configuration.get("codecs", [])) + codec_names(configuration.get("index_codecs", []))
    return names
