"""Short scans, scans without gaps and damaged ones: what makes sense is done, and the rest is named with its reason."""

import numpy as np
import pytest

from tasks.store import ScanStore
from tasks.verify import verify_store

pytestmark = pytest.mark.server

ALWAYS = {"counts", "valid", "normalized", "tiles", "inpainted", "provenance"}
NO_MAP = "{} frames make no map; it needs 8 (cluster.min_frames)"
LENGTHS = {
    1: ({"predictions"}, dict.fromkeys(("encode", "cluster"), "1 frame has nothing to be compared with")),
    2: ({"predictions", "latent"}, {"cluster": NO_MAP.format(2)}),
    3: ({"predictions", "latent"}, {"cluster": NO_MAP.format(3)}),
    10: ({"predictions", "latent", "coordinates", "cluster"}, {}),
}
HELD_OUT = {1: 0, 2: 0, 3: 1, 10: 2}
"""Frames of a short scan that its model is not trained on, which are too few to tell how wrong it may be."""


def results(store: ScanStore) -> set[str]:
    """Arrays with a frame axis that a stage made."""
    return {name for name, array in store.frame_arrays().items() if array.ndim > 1 or name == "cluster"}


@pytest.mark.parametrize("n_frames", LENGTHS)
def test_a_short_scan(tmp_path, flow_runs, write_scan, small, n_frames):
    more, left_out = LENGTHS[n_frames]
    left_out = left_out | {
        "uncertainty": f"{HELD_OUT[n_frames]} held-out frames with gaps are too few, 6 are needed",
    }
    if n_frames < 6:
        left_out["familiarity"] = f"the model was trained on {n_frames} frames; 6 tell what is usual"
    write_scan(tmp_path / "raw", range(n_frames))
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())["result"]
    store = ScanStore(tmp_path / "scan.zarr")
    assert found["n_frames"] == store.n_frames == n_frames
    assert results(store) == ALWAYS | more
    assert {part["what"]: part["why"] for part in found["left_out"]} == left_out
    page = (tmp_path / "scan.report.html").read_text()
    assert found["report"] == str(tmp_path / "scan.report.html")
    assert all(why in page for why in left_out.values())
    inpainted = store.read("inpainted", 0, n_frames)
    assert np.array_equal(np.isnan(inpainted), store.read("provenance", 0, n_frames) == 2)
    assert verify_store(store.path, deep=True).is_green


def test_a_scan_without_gaps_is_not_trained_on(tmp_path, flow_runs, write_scan, small, tree):
    write_scan(tmp_path / "raw", range(9), gaps=False)
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())["result"]
    assert [(part["what"], part["why"]) for part in found["left_out"]] == [
        ("train", "the frames have no gaps"),
        ("infer", "the frames have no gaps"),
    ]
    assert "the frames have no gaps" in (tmp_path / "scan.report.html").read_text()
    store = ScanStore(tmp_path / "scan.zarr")
    assert results(store) == ALWAYS | {"latent", "coordinates", "cluster"}
    assert not any("inpainting" in name for name in tree(store.path))
    np.testing.assert_array_equal(store.read("inpainted", 0, 9), store.read("normalized", 0, 9))
    assert not store.read("provenance", 0, 9).any()


def test_a_model_that_was_given_is_not_trained(tmp_path, flow_runs, write_scan, small, trained, tree):
    write_scan(tmp_path / "raw", range(2))
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", model=trained, **small())["result"]
    assert {"what": "train", "why": f"a model was given: {trained}"} in found["left_out"]
    assert "predictions" in ScanStore(tmp_path / "scan.zarr").frame_arrays()
    assert not any("inpainting" in name for name in tree(tmp_path / "scan.zarr"))


def damage(path) -> None:
    """Flip a bit of the pixels, which only the checksum can tell."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 40] ^= 0x10
    path.write_bytes(content)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("spoil", [damage, cut])
def test_one_corrupt_frame_among_good_ones(tmp_path, flow_runs, write_scan, small, spoil):
    paths = write_scan(tmp_path / "raw", range(4))
    spoil(paths[0])
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())["result"]
    assert found["frames_by_state"] == {"pending": 0, "ingested": 3, "quarantined": 1, "double": 0}
    [refused] = found["refused"]
    assert (refused["file"], refused["state"]) == (str(paths[0]), "quarantined")
    assert "CBF" in refused["reason"]
    page = (tmp_path / "scan.report.html").read_text()
    assert "scan_0000.cbf" in page
    assert list(ScanStore(tmp_path / "scan.zarr").read("frame_number", 0, 3)) == [1, 2, 3]


@pytest.mark.parametrize("spoil", [damage, cut])
def test_frames_that_are_all_corrupt(tmp_path, flow_runs, write_scan, small, spoil):
    paths = write_scan(tmp_path / "raw", range(3))
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        spoil(path)
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())
    assert found["error"] == "SourceError", found
    assert "none of the 3 frames could be read; the first reasons:" in found["message"]
    assert all(str(path) in found["message"] for path in paths)
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())["result"]
    assert found["frames_by_state"] == {"pending": 0, "ingested": 3, "quarantined": 0, "double": 0}
    assert verify_store(tmp_path / "scan.zarr", deep=True).is_green


def test_a_frame_on_which_nothing_was_measured(tmp_path, flow_runs, write_scan, write_blank, small):
    write_blank(tmp_path / "raw" / "scan_0000.cbf")
    write_scan(tmp_path / "raw", range(1, 5))
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())
    assert found.get("result", found)["n_frames"] == 5, found
    store = ScanStore(tmp_path / "scan.zarr")
    assert np.isnan(store.read("inpainted", 0, 1)).all()
    assert (store.read("provenance", 0, 1) == 2).all()
    assert np.isfinite(store.read("inpainted", 1, 5)).mean() > 0.9
    assert np.isfinite(store.read("latent", 0, 5)).all()


def test_a_scan_on_which_nothing_was_measured(tmp_path, flow_runs, write_blank, small):
    write_blank(tmp_path / "raw" / "scan_0000.cbf")
    write_blank(tmp_path / "raw" / "scan_0001.cbf")
    found = flow_runs(source=tmp_path / "raw", store=tmp_path / "scan.zarr", **small())
    left_out = {part["what"]: part["why"] for part in found.get("result", found)["left_out"]}
    assert left_out["train"] == left_out["infer"] == "no frame has a measured pixel"
    store = ScanStore(tmp_path / "scan.zarr")
    assert "predictions" not in store
    assert (store.read("provenance", 0, 2) == 2).all()
