"""`tasks.explain` tells what became of a frame, from the store alone."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tasks.errors import SettingsError
from tasks.explain import explain, main
from tasks.store import ScanStore


@pytest.fixture(scope="module")
def scan(tmp_path_factory, write_scan, run_stages, small):
    folder = tmp_path_factory.mktemp("explained")
    files = write_scan(folder / "raw", range(9))
    content = bytearray(files[4].read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 20] ^= 0x10
    files[4].write_bytes(content)
    run_stages(folder / "raw", folder / "scan.zarr", small())
    return files, folder / "scan.zarr"


def test_a_frame_is_found_by_row_name_and_path(scan):
    files, store = scan
    for name in ("3", files[3].name, str(files[3]), f"{files[3].name}[0]"):
        assert explain(store, name)["source"]["file"] == str(files[3])
    assert explain(store, 5)["source"]["file"] == str(files[6])  # a frame before it was quarantined


def test_the_source_is_told_with_hash_and_history(scan):
    files, store = scan
    source = explain(store, 0)["source"]
    assert source["sha256"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert [past["state"] for past in source["history"]] == ["pending", "ingested"]
    times = [datetime.fromisoformat(past["at"]) for past in source["history"]]
    assert datetime.now(UTC) - timedelta(hours=1) < times[0] <= times[1] <= datetime.now(UTC)


def test_a_quarantined_frame_has_a_reason_and_no_results(scan):
    files, store = scan
    told = explain(store, files[4].name)
    assert told["source"]["state"] == "quarantined"
    assert "MD5" in told["source"]["reason"]
    assert "results" not in told
    with pytest.raises(SettingsError, match="quarantined, so that it has no pixels"):
        explain(store, files[4].name, (0, 0))


def test_each_result_names_stage_settings_model_and_inputs(scan):
    _, path = scan
    results = {entry["array"]: entry for entry in explain(path, 2)["results"]}
    assert list(results)[:6] == ["counts", "valid", "normalized", "tiles", "predictions", "inpainted"]
    assert results["normalized"]["computed_from"] == ["counts", "valid"]
    assert results["predictions"]["computed_from"] == ["tiles"]
    assert results["inpainted"]["computed_from"] == ["normalized", "predictions"]
    assert results["inpainted"]["settings"]["window"] == "box"
    assert results["predictions"]["model"]["kind"] == "TUNet"
    store = ScanStore(path)
    for name, entry in results.items():
        assert entry["done"]
        assert entry["shard_sha256"] == store.shard_file(name, entry["shard"]).sha256
        assert datetime.fromisoformat(entry["written_at"]) <= datetime.now(UTC)


def test_a_pixel_is_told_with_values_detector_pixels_and_tiles(scan):
    _, path = scan
    store = ScanStore(path)
    provenance = store.read("provenance", 2, 3)[0]
    row, column = (int(place[0]) for place in np.nonzero(provenance == 1))
    pixel = explain(path, 2, (row, column))["pixel"]
    assert pixel["values"]["provenance"] == 1
    assert pixel["values"]["normalized"] is None
    assert pixel["values"]["inpainted"] == store.read("inpainted", 2, 3)[0, row, column]
    y, x = store.attributes["frame_shape"]
    rows, columns = store.array("normalized").shape[1:]
    assert pixel["detector_pixels"]["y"] == [row * y // rows, -(-(row + 1) * y // rows) - 1]
    assert pixel["detector_pixels"]["x"] == [column * x // columns, -(-(column + 1) * x // columns) - 1]
    tiles, origins = store.read("tiles", 2, 3)[0], store.array("tiles").attrs["origins"]
    held = [
        tile
        for tile, (top, left) in enumerate(origins)
        if top <= row < top + tiles.shape[1] and left <= column < left + tiles.shape[2]
    ]
    assert pixel["tiles"] == held
    assert held


@pytest.mark.parametrize(
    ("frame", "pixel", "message"),
    [
        ("8", None, "holds rows 0 to 7"),
        ("nowhere", None, "no frame matches 'nowhere'"),
        (".cbf", None, "9 frames match '.cbf'"),
        ("0", (10_000, 0), "outside the normalized frames"),
    ],
)
def test_what_is_not_there_is_refused(scan, frame, pixel, message):
    with pytest.raises(SettingsError, match=message):
        explain(scan[1], frame, pixel)


def test_the_command_prints_text_and_json(scan, capsys):
    _, store = scan
    assert main([str(store), "1", "--pixel", "0", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == explain(store, 1, (0, 0))
    assert main([str(store), "1"]) == 0
    assert "  state: ingested\n" in capsys.readouterr().out
    assert main([str(store), "99"]) == 1
    assert "holds rows 0 to 7" in capsys.readouterr().err
