"""Fixtures for tests of stages and flows.

write_frames   writes small, real CBF files whose pixels are known
write_scan     writes a small scan with rings, gaps and a beamstop
write_blank    writes a frame without a measured pixel
write_strange  writes frames of another sample
ingest_all     surveys and ingests a source without a Prefect server, as the flow does
stage_settings the settings, as JSON, as what stages take
run_stages     the stages of process_scan, one after the other, without a Prefect server
trained        folder of a small inpainting model, trained on such a scan
flow_runs      runs process_scan and other flows in processes of their own; they may be killed
small          settings with which process_scan takes seconds
tree           the bytes of every file of a store but its ledger
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fabio.cbfimage
import numpy as np
import pytest

from flows.embedded_server import running_server
from tasks.encode import encode_batch, place_latent, train_encoder
from tasks.familiarity import familiarity_batch, place_familiarity
from tasks.infer import infer_batch, place_predictions
from tasks.ingest import counts_ref, enter_frames, ingest_batch, prepare_ingest, valid_ref
from tasks.models import find_model
from tasks.normalize import normalize_batch, place_normalized
from tasks.planning import StageSettings, needs
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import (
    ClusterSettings,
    EncodeSettings,
    InferSettings,
    NormalizeSettings,
    StitchSettings,
    TileSettings,
    TrainSettings,
)
from tasks.stage import RunPlan
from tasks.stitch import place_stitched, stitch_batch
from tasks.store import FrameRange, FrameState, ScanRef, ScanStore, open_store
from tasks.survey import survey_source
from tasks.tile import grid_of, place_tiles, tile_batch
from tasks.train import train_on_scan
from tasks.uncertainty import place_uncertainty, uncertainty_batch
from tasks.workers import Workers

SHAPE = (48, 64)
SCAN_SHAPE = (128, 160)


def counts_of(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Frame of a scan: Poisson counts with a vertical gap of -1 and a dead pixel of -2."""
    counts = np.random.default_rng(number).poisson(20.0, shape).astype("int32")
    counts[:, 30:33] = -1  # nothing in frames narrower than that
    counts[5, 6] = -2
    return counts


def ring_counts(number: int, gaps: bool = True, shape: tuple[int, int] = SCAN_SHAPE) -> np.ndarray:
    """Frame of one of three samples: rings, two gaps of 4 pixels, and a beamstop that is wider than the gaps."""
    y, x = np.indices(shape)
    radius = np.hypot(y - 64, x - 30)
    rings = 1 + np.cos(radius / (4 + 2 * (number % 3)))
    counts = np.random.default_rng(number).poisson(60 * rings * np.exp(-radius / 80)).astype("int32")
    if gaps:
        counts[:, 60:64] = counts[60:64] = -1
        counts[90:114, 90:120] = -1
        counts[5, 6] = -2
    return counts


def write_cbf(path: Path, counts: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fabio.cbfimage.CbfImage(data=counts).write(str(path))
    return path


@pytest.fixture
def write_frames() -> Callable[..., list[Path]]:
    def write(folder: Path, numbers, shape=SHAPE, prefix="scan") -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        return [write_cbf(folder / f"{prefix}_{number}.cbf", counts_of(number, shape)) for number in numbers]

    return write


@pytest.fixture(scope="session")
def write_scan() -> Callable[..., list[Path]]:
    def write(folder: Path, numbers, gaps=True, shape=SCAN_SHAPE) -> list[Path]:
        return [write_cbf(folder / f"scan_{number:04d}.cbf", ring_counts(number, gaps, shape)) for number in numbers]

    return write


@pytest.fixture(scope="session")
def write_blank() -> Callable[[Path], Path]:
    """Write a frame of the same shape on which no pixel measured."""
    return lambda path: write_cbf(path, np.full(SCAN_SHAPE, -1, "int32"))


@pytest.fixture(scope="session")
def write_strange() -> Callable[..., list[Path]]:
    """Write frames of the same detector and scan that show another sample."""

    def write(folder: Path, numbers) -> list[Path]:
        paths = []
        for number in numbers:
            counts = ring_counts(number)
            flat = np.random.default_rng(number).poisson(400, SCAN_SHAPE).astype("int32")
            paths.append(write_cbf(folder / f"scan_{number:04d}.cbf", np.where(counts < 0, counts, flat)))
        return paths

    return write


@pytest.fixture
def ingest_all() -> Callable[..., ScanStore]:
    def ingest(source, store: Path, settings: IngestSettings = IngestSettings(batch_frames=16)) -> ScanStore:
        with surveyed(source, store, settings) as scan:
            while open_store(scan).frames.in_state(FrameState.PENDING):
                ingest_batch.fn(scan, settings, Workers(threads=2))
        return ScanStore(store)

    return ingest


@contextmanager
def surveyed(source, store: Path, settings: IngestSettings) -> Iterator[ScanRef]:
    held = ScanStore(store).frames if (store / "zarr.json").exists() else None
    found = survey_source(str(source), held, settings.validity)
    with ScanStore.writing(store):
        scan = prepare_ingest(store, found, settings)
        open_store(scan).recover()
        enter_frames(scan, found, str(source))
        yield scan


@pytest.fixture
def expected() -> Callable[..., np.ndarray]:
    def stack(numbers, shape=SHAPE) -> np.ndarray:
        return np.array([counts_of(number, shape) for number in numbers], "int32").reshape(-1, *shape)

    return stack


SMALL: dict[str, dict[str, Any]] = {
    "ingest": {"batch_frames": 16},
    "normalize": {"shape": [64, 64]},
    "tile": {"shape": [64, 32], "step": [64, 16]},
    "train": {"depth": 1, "base_channels": 2, "epochs": 3, "max_tiles": 16},
    "infer": {"device": "cpu"},
    "stitch": {"reach_px": 6},
    "encode": {"latent": 4, "pooled_shape": [16, 16], "base_channels": 2, "depth": 2, "epochs": 3},
    "cluster": {},
}


@pytest.fixture(scope="session")
def small() -> Callable[..., dict[str, dict[str, Any]]]:
    """Settings as JSON; keyword arguments, as in `tile={"step": [64, 32]}`, change single ones."""

    def settings(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {stage: {**values, **changes.get(stage, {})} for stage, values in SMALL.items()}

    return settings


@pytest.fixture(scope="session", name="stage_settings")
def _stage_settings() -> Callable[..., tuple[IngestSettings, StageSettings]]:
    return stage_settings


def stage_settings(given: dict[str, dict[str, Any]]) -> tuple[IngestSettings, StageSettings]:
    kinds = {
        "normalize": NormalizeSettings, "tile": TileSettings, "train": TrainSettings, "infer": InferSettings,
        "stitch": StitchSettings, "encode": EncodeSettings, "cluster": ClusterSettings,
    }  # fmt: skip
    stages = {stage: kind.model_validate(given[stage]) for stage, kind in kinds.items()}
    return IngestSettings.model_validate(given["ingest"]), StageSettings(**stages)


@pytest.fixture(scope="session")
def run_stages() -> Callable[..., SimpleNamespace]:
    return run_all_stages


def run_all_stages(
    source, store: Path, given, *, model: Path | None = None, until="encode", workers=Workers(threads=2)
):
    """Run the stages up to `until`; without a model the scan is trained on. Returns references and task runs."""
    ingest, stages = stage_settings(given)
    runs = []
    with surveyed(source, store, ingest) as scan:
        while open_store(scan).frames.in_state(FrameState.PENDING):
            runs.append(ingest_batch.fn(scan, ingest, workers))
        plan, frames = RunPlan(scan, stages.to_dict()), FrameRange(0, open_store(scan).n_frames)
        counts, valid = counts_ref(scan), valid_ref(scan, ingest)
        refs = SimpleNamespace(scan=scan, store=open_store(scan), runs=runs)
        refs.normalized = place_normalized(plan, counts, valid, stages.normalize)
        runs.append(normalize_batch.fn(frames, counts, valid, refs.normalized, stages.normalize, workers))
        grid = grid_of(refs.normalized, stages.tile)
        refs.tiles = place_tiles(plan, refs.normalized, grid, stages.tile)
        runs.append(tile_batch.fn(frames, refs.normalized, refs.tiles, grid, workers))
        if until == "tile":
            return refs
        if model is None:
            _, refs.model = train_on_scan.fn(plan, refs.normalized, refs.tiles, stages)
        else:
            refs.model = find_model(str(model), needs(stages.normalize))
        refs.familiarity, _ = place_familiarity(plan, refs.normalized, refs.model)
        if refs.familiarity is not None:
            runs.append(familiarity_batch.fn(frames, refs.normalized, refs.familiarity, refs.model, workers))
        refs.predictions = place_predictions(plan, refs.tiles, refs.model)
        outputs = place_stitched(plan, refs.normalized, refs.predictions, stages.stitch)
        runs.append(infer_batch.fn(frames, refs.tiles, refs.predictions, refs.model, stages.infer, outputs))
        refs.inpainted, refs.provenance = outputs
        inputs = (refs.normalized, refs.predictions, outputs)
        runs.append(stitch_batch.fn(frames, *inputs, grid, stages.stitch, workers))
        refs.uncertainty, _ = place_uncertainty(plan, refs.inpainted, refs.model)
        if refs.uncertainty is not None:
            runs.append(uncertainty_batch.fn(frames, *outputs, refs.uncertainty, refs.model, workers))
        if until == "stitch":
            return refs
        _, refs.encoder = train_encoder.fn(plan, refs.inpainted, stages.encode, "cpu")
        refs.latent = place_latent(plan, refs.inpainted, refs.encoder, stages.encode)
        runs.append(encode_batch.fn(frames, refs.inpainted, refs.latent, refs.encoder, "cpu"))
    return refs


@pytest.fixture(scope="session")
def trained(tmp_path_factory, write_scan, run_stages, small) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_scan(folder / "raw", range(24))  # of which it learns from 14, so that others are left to find its errors on
    return Path(run_stages(folder / "raw", folder / "scan.zarr", small(), until="stitch").model.folder)


class FlowRuns:
    """Runs of process_scan, or of another flow by its name, one at a time."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, home: Path) -> None:
        self._process, self.log, self.home = process, log, home

    def __call__(self, flow: str = "process_scan", **arguments: Any) -> dict[str, Any]:
        """Run to the end: {"status", "result"} or {"status", "error", "message"}."""
        self.start(flow, **arguments)
        return self.ended()

    def start(self, flow: str = "process_scan", **arguments: Any) -> int:
        """Begin a run and return the id of its process."""
        self.log.write_text("")
        request = {
            "flow": flow,
            "arguments": {key: _plain(value) for key, value in arguments.items()},
            "log": str(self.log),
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def ended(self) -> dict[str, Any]:
        """Wait for the run's end."""
        return dict(json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the process that runs flows has died: {self._process.poll()}"
        return line


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


@pytest.fixture(scope="session")
def flow_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowRuns]:
    folder = tmp_path_factory.mktemp("flows")
    environment = {
        "DLSIA_FLOWS_HOME": str(folder / "home"),
        "DLSIA_FLOWS_PORT": "0",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        # The other layers of numba do not survive a fork.
        "NUMBA_THREADING_LAYER": "workqueue",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("flow_forks.py"))]
    with pytest.MonkeyPatch.context() as patch, (folder / "stderr").open("w") as errors:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "DLSIA_FLOWS_"))]:
            patch.delenv(name)
        patch.setenv("DLSIA_FLOWS_HOME", environment["DLSIA_FLOWS_HOME"])
        patch.setenv("DLSIA_FLOWS_PORT", "0")
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=os.environ | environment,
        )
        server = running_server(grace_s=2.0)
        server.__enter__()  # while the other process imports
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", (folder / "stderr").read_text()
        yield FlowRuns(process, folder / "run.log", folder / "home")
    finally:
        server.__exit__(None, None, None)
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def tree() -> Callable[..., dict[str, bytes]]:
    """The bytes of every file of a store; not of its ledger, nor its name for itself."""

    def read(store: Path) -> dict[str, bytes]:
        files = {str(file.relative_to(store)): file for file in sorted(store.rglob("*")) if file.is_file()}
        return {
            name: file.read_bytes()
            for name, file in files.items()
            if name != "zarr.json" and not (name.startswith("ledger/") and not name.endswith("zarr.json"))
        }

    return read
