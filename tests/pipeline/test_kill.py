"""`kill -9` in every stage, then the same command: the store ends with the bytes of an undisturbed run."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.ingest import prepare_ingest
from tasks.readers import ValidityRule
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameRange, ScanStore
from tasks.store.ledger import FrameLedger, ShardLedger
from tasks.survey import survey_source
from tasks.verify import main as verify
from tasks.verify import verify_store

N_FRAMES = 40
DAMAGED = (3, 21)
STAGES = [
    *("ingest", "normalize", "tile", "train", "familiarity", "infer", "stitch", "uncertainty"),
    *("train-encoder", "encode", "cluster", "report"),
]
WRITTEN_LAST = {
    "ingest": "counts", "normalize": "normalized", "tile": "tiles", "familiarity": "unfamiliar", "infer": "predictions",
    "stitch": "provenance", "uncertainty": "uncertainty", "encode": "latent", "cluster": "cluster",
}  # fmt: skip
MODELS = {"train": "inpainting", "train-encoder": "encoder"}
TRIES = 12


@dataclass(frozen=True)
class Scan:
    """A store on its way to hold `n_frames`, and what tells how far it is."""

    source: Path
    store: Path
    log: Path
    n_frames: int

    @property
    def report(self) -> Path:
        return self.store.with_name(self.store.name.replace(".zarr", ".report.html"))

    def shards(self, array: str) -> tuple[int, int]:
        """How many shards of an array are committed, and how many there are to be."""
        frames = FrameRange(0, self.n_frames)
        wanted = [(0, 0, self.n_frames)] if array == "cluster" else list(frames.shards(16))
        ledger = ShardLedger(self.store / "ledger" / "shards.jsonl")
        records = [(ledger.get(array, shard), stop) for shard, _, stop in wanted]
        return sum(record is not None and record.sha256 != "" and record.stop == stop for record, stop in records), len(
            wanted
        )

    def began(self, stage: str) -> bool:
        """Whether the run under way has begun with the stage."""
        signs = {"train": "inpainting network: epoch 1", "train-encoder": "autoencoder: epoch 1"}
        return signs.get(stage, f"Executing task '{stage}'") in self.log.read_text()

    def is_finished(self, stage: str) -> bool:
        if stage == "ingest":
            return len(FrameLedger(self.store / "ledger" / "frames.jsonl").ingested) == self.n_frames
        if stage in WRITTEN_LAST:
            done, wanted = self.shards(WRITTEN_LAST[stage])
            return done == wanted
        if stage in MODELS:
            return any(self.store.glob(f"models/{MODELS[stage]}-*/model.json"))
        return self.report.exists()


@dataclass(frozen=True)
class Killer:
    """Runs process_scan and kills it in the middle of a stage."""

    flow_runs: Any
    settings: dict[str, Any]
    random: random.Random

    def kill_in(self, scan: Scan, stage: str) -> None:
        """Kill a run in the stage; where the signal came too late, put the store back and try again."""
        before = scan.store.with_suffix(".before")
        before.mkdir()
        if scan.store.exists():
            shutil.copytree(scan.store, before / "store")
        for _ in range(TRIES):
            process = self.flow_runs.start(source=scan.source, store=scan.store, **self.settings)
            self._kill_when_under_way(process, scan, stage)
            ended = self.flow_runs.ended()
            if ended["status"] == -signal.SIGKILL and scan.began(stage) and not scan.is_finished(stage):
                shutil.rmtree(before)
                return
            assert "error" not in ended, ended
            shutil.rmtree(scan.store)
            scan.report.unlink(missing_ok=True)
            if (before / "store").exists():
                shutil.copytree(before / "store", scan.store)
        pytest.fail(f"{TRIES} runs were not hit in {stage}: it begins and ends too fast to be killed in between")

    def _kill_when_under_way(self, process: int, scan: Scan, stage: str) -> None:
        """Wait until the stage has begun and committed some, none or all but one of its shards."""
        array = WRITTEN_LAST.get(stage)
        more = self.random.randrange(scan.shards(array)[1] - scan.shards(array)[0]) if array else 0
        wanted = scan.shards(array)[0] + more if array else 0
        pause_s = self.random.choice([0, 0.001, 0.003, 0.01])
        while lives(process):
            if scan.began(stage) and (not array or scan.shards(array)[0] >= wanted):
                time.sleep(pause_s)
                os.kill(process, signal.SIGKILL)
                return
            time.sleep(0.0005)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def write_damaged_scan(write_scan) -> Callable[[Path], Path]:
    """Frames, two of them damaged so that only reading them tells."""

    def write(folder: Path) -> Path:
        paths = write_scan(folder, range(N_FRAMES))
        for number in DAMAGED:
            content = bytearray(paths[number].read_bytes())
            content[content.index(b"\x0c\x1a\x04\xd5") + 4 + number] ^= 0x10
            paths[number].write_bytes(content)
        return folder

    return write


@pytest.fixture(scope="module")
def source(tmp_path_factory, write_damaged_scan) -> Path:
    return write_damaged_scan(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, flow_runs, source, small) -> Path:
    store = tmp_path_factory.mktemp("undisturbed") / "scan.zarr"
    found = flow_runs(source=source, store=store, **small())["result"]["frames_by_state"]
    assert found == {"pending": 0, "ingested": N_FRAMES - len(DAMAGED), "quarantined": len(DAMAGED), "double": 0}
    return store


@pytest.fixture(scope="module")
def assert_same(tree) -> Callable[[Path, Path], None]:
    def compare(store: Path, reference: Path) -> None:
        files, wanted = tree(store), tree(reference)
        assert sorted(files) == sorted(wanted), "a killed run left something behind, or lost something"
        assert [name for name in files if files[name] != wanted[name]] == []
        found, expected = ScanStore(store), ScanStore(reference)
        assert found.attributes | {"scan_id": ""} == expected.attributes | {"scan_id": ""}
        assert found.frames.all() == expected.frames.all()
        assert verify_store(store, deep=True).is_green, verify_store(store, deep=True)
        assert verify_store(store).shards_checked == verify_store(reference).shards_checked

    return compare


def kill_in_each(killer: Killer, scan: Scan, stages: list[str]) -> None:
    for number, stage in enumerate(stages):
        killer.kill_in(scan, stage)
        assert not any(scan.is_finished(later) for later in stages[number:]), f"killed behind {stage}"
        assert not verify_store(scan.store).wrong, "what a kill leaves is unfinished, not wrong"


@pytest.mark.slow  # a start of Python for each stage
@pytest.mark.server
def test_a_run_that_is_killed_once_in_every_stage(tmp_path, flow_runs, source, small, undisturbed, assert_same):
    scan = Scan(source, tmp_path / "scan.zarr", flow_runs.log, N_FRAMES - len(DAMAGED))
    kill_in_each(Killer(flow_runs, small(), random.Random(0)), scan, STAGES)
    assert flow_runs(source=source, store=scan.store, **small())["status"] == 0
    assert_same(scan.store, undisturbed)
    assert verify([str(scan.store), "--deep"]) == 0


@pytest.mark.server
def test_a_scan_that_grows_and_is_killed_in_every_stage(tmp_path, flow_runs, write_scan, small, assert_same):
    stages = [stage for stage in STAGES if stage not in MODELS and stage != "report"]
    write_scan(tmp_path / "raw", range(20))
    assert flow_runs(source=tmp_path / "raw", store=tmp_path / "begun.zarr", **small())["status"] == 0
    for name in ("undisturbed.zarr", "scan.zarr"):
        shutil.copytree(tmp_path / "begun.zarr", tmp_path / name)
    write_scan(tmp_path / "raw", range(20, 35))
    assert flow_runs(source=tmp_path / "raw", store=tmp_path / "undisturbed.zarr", **small())["status"] == 0
    scan = Scan(tmp_path / "raw", tmp_path / "scan.zarr", flow_runs.log, 35)
    kill_in_each(Killer(flow_runs, small(), random.Random(1)), scan, stages)
    assert flow_runs(source=scan.source, store=scan.store, **small())["status"] == 0
    assert_same(scan.store, tmp_path / "undisturbed.zarr")


def kill_at_random(flow_runs, arguments: dict[str, Any], moments: Iterator[float]) -> int:
    """Run and kill until a run ends by itself; return how many were killed."""
    for killed, moment_s in enumerate(moments):
        process = flow_runs.start(**arguments)
        deadline = time.monotonic() + moment_s
        while lives(process) and time.monotonic() < deadline:
            time.sleep(0.0005)
        if lives(process):
            os.kill(process, signal.SIGKILL)
        ended = flow_runs.ended()
        assert "error" not in ended, ended
        if ended["status"] == 0:
            return killed
    return killed + 1


@pytest.mark.server
def test_a_run_that_is_killed_again_and_again(tmp_path, flow_runs, source, small, undisturbed, assert_same):
    arguments = {"source": source, "store": tmp_path / "scan.zarr", **small()}
    rng = random.Random(2)
    kill_at_random(flow_runs, arguments, iter([rng.uniform(0.2, 1.2) for _ in range(6)]))
    assert flow_runs(**arguments)["status"] == 0
    assert_same(tmp_path / "scan.zarr", undisturbed)


@pytest.mark.server
def test_a_run_that_is_killed_as_soon_as_frames_are_ingested(
    tmp_path, flow_runs, source, small, undisturbed, assert_same
):
    """The states of frames are the commit: the hashes of their shards must have been written before them."""
    arguments = {"source": source, "store": tmp_path / "scan.zarr", **small()}
    frames = tmp_path / "scan.zarr" / "ledger" / "frames.jsonl"
    for _ in range(2):
        held = frames.read_text().count("ingested") if frames.exists() else 0
        process = flow_runs.start(**arguments)
        while lives(process) and not (frames.exists() and frames.read_text().count("ingested") > held):
            pass
        os.kill(process, signal.SIGKILL)
        assert flow_runs.ended()["status"] == -signal.SIGKILL
    assert flow_runs(**arguments)["status"] == 0
    assert_same(tmp_path / "scan.zarr", undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # fifty runs of the whole chain
@pytest.mark.server
def test_runs_that_are_killed_at_25_moments_each_end_the_same(
    tmp_path, flow_runs, source, small, undisturbed, assert_same
):
    arguments = {"source": source, "store": tmp_path / "scan.zarr", **small()}
    began = time.monotonic()
    assert flow_runs(**arguments)["status"] == 0
    usual_s, killed, rng = time.monotonic() - began, 0, random.Random(3)
    for moment in range(25):
        shutil.rmtree(tmp_path / "scan.zarr")
        killed += kill_at_random(flow_runs, arguments, iter([usual_s * (moment + rng.random()) / 25]))
        assert not (tmp_path / "scan.zarr").exists() or not verify_store(tmp_path / "scan.zarr").wrong
        assert flow_runs(**arguments)["status"] == 0
        assert_same(tmp_path / "scan.zarr", undisturbed)
    assert killed > 15


@pytest.mark.server
@pytest.mark.slow  # a whole scan three times; the fast suite kills a training by itself
def test_a_training_that_is_killed_goes_on_at_its_checkpoint(tmp_path, flow_runs, source, small, assert_same):
    long = small(train={"epochs": 40, "batch_size": 1, "max_tiles": 48, "checkpoint_s": 0.05})
    assert flow_runs(source=source, store=tmp_path / "undisturbed.zarr", **long)["status"] == 0
    arguments = {"source": source, "store": tmp_path / "scan.zarr", **long}
    process = flow_runs.start(**arguments)
    while lives(process) and "inpainting network: epoch 5 of" not in flow_runs.log.read_text():
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    assert not any((tmp_path / "scan.zarr").glob("models/*/model.json"))
    assert flow_runs(**arguments)["status"] == 0
    assert "inpainting network: epoch 1 of" not in flow_runs.log.read_text()
    assert_same(tmp_path / "scan.zarr", tmp_path / "undisturbed.zarr")


def test_an_axis_that_a_kill_left_without_values_gets_them(tmp_path, write_scan, run_stages, small, tree):
    write_scan(tmp_path / "raw", range(2))
    store = tmp_path / "scan.zarr"
    run_stages(tmp_path / "raw", store, small(), until="tile")
    whole = tree(store)
    for axis in ("row", "column"):
        (store / axis / "c" / "0").unlink()
    run_stages(tmp_path / "raw", store, small(), until="tile")
    assert tree(store) == whole


def test_an_axis_of_the_detector_that_a_kill_left_without_values_gets_them(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", [1])
    found = survey_source(str(tmp_path / "raw"), None, ValidityRule())
    prepare_ingest(tmp_path / "scan.zarr", found, IngestSettings(batch_frames=16))
    (tmp_path / "scan.zarr" / "x" / "c" / "0").unlink()
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    np.testing.assert_array_equal(store.array("x")[...], np.arange(64))


def test_a_store_of_which_a_kill_left_an_unfinished_file_is_made(tmp_path, write_frames, ingest_all):
    write_frames(tmp_path / "raw", [1])
    (tmp_path / "scan.zarr").mkdir()
    (tmp_path / "scan.zarr" / "zarr.0123.partial").write_text('{"zarr_for')
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    assert store.n_frames == 1
    assert not list(store.path.rglob("*.partial"))


def test_frames_that_are_mended_after_none_could_be_read(tmp_path, write_frames, ingest_all, expected):
    paths = write_frames(tmp_path / "raw", [1, 2])
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_bytes(b"###CBF: VERSION 1.5\n")
    ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    store = ingest_all(tmp_path / "raw", tmp_path / "scan.zarr")
    np.testing.assert_array_equal(store.read("counts", 0, 2), expected([1, 2]))
    assert {"ingest", "frame_shape", "shard_frames", "sources", "coordinates"} <= set(store.attributes)
