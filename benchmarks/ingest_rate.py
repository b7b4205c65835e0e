"""Frames per second of ingest: `python benchmarks/ingest_rate.py [--frames 512] [--compression lz4]`.

PILATUS 2M CBF files (simulated, or copies of those in --data) in the page cache are decoded, checked (Content-MD5,
sizes), hashed, compressed and written, without a Prefect server.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tasks.ingest import enter_frames, ingest_batch, prepare_ingest
from tasks.settings.ingest import IngestSettings
from tasks.store import FrameState, ScanStore, open_store
from tasks.survey import survey_source
from tasks.workers import Workers


def source_of(folder: Path, n_frames: int, data: Path | None) -> Path:
    """A folder of CBF files, written now and so in the page cache."""
    if data is None:
        from deployments.simulated_beamtime import SimulationSettings, write_scan

        originals = write_scan(folder / "originals", SimulationSettings(n_frames=min(n_frames, 16)))
    else:
        originals = sorted(data.glob("*.cbf"))
    raw = folder / "raw"
    raw.mkdir()
    for number in range(n_frames):
        shutil.copy(originals[number % len(originals)], raw / f"scan_{number:05d}.cbf")
    return raw


def ingest(raw: Path, store: Path, settings: IngestSettings, workers: Workers) -> tuple[float, int]:
    """Seconds and bytes written, without a Prefect server."""
    started = time.perf_counter()
    survey = survey_source(str(raw), None, settings.validity)
    written = 0
    with ScanStore.writing(store):
        scan = prepare_ingest(store, survey, settings)
        enter_frames(scan, survey, str(raw))
        while open_store(scan).frames.in_state(FrameState.PENDING):
            written += ingest_batch.fn(scan, settings, workers).bytes_written
    return time.perf_counter() - started, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--compression", choices=["zstd", "lz4"], default="lz4")
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--data", type=Path, help="folder of CBF files to copy; default: simulated ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw = source_of(Path(folder), options.frames, options.data)
        settings, workers = IngestSettings(compression=options.compression), Workers(threads=options.threads)
        seconds, written = ingest(raw, Path(folder) / "scan.zarr", settings, workers)
    print(
        f"{options.frames} frames, {options.compression}, {workers.n_threads} threads: "
        f"{options.frames / seconds:.1f} frames/s ({seconds:.2f} s, {written / options.frames / 1e6:.2f} MB/frame)"
    )


if __name__ == "__main__":
    main()
