"""Write a simulated scan into a folder, at a rate, whole files or growing ones, its truth elsewhere."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from dlsia_core.errors import SettingError

from .detector import generator
from .formats import ENDINGS, damage, encode_frame, sidecar
from .frames import SimulatedFrame, simulate_frame
from .settings import SimulationSettings

_LATE = 0.1  # of a frame's time; later than that counts as a missed rate
_PAUSE_S = 0.02  # between the pieces of a file when no rate is given

logger = logging.getLogger(__name__)


def frame_path(folder: Path, settings: SimulationSettings, index: int) -> Path:
    """Path of the detector file of frame `index` (from 0).

    >>> frame_path(Path("data"), SimulationSettings(scan="film"), 8).name
    'film_00009.cbf'
    """
    return folder / (settings.file_stem(index) + ENDINGS[settings.file_format])


def damaged_frames(settings: SimulationSettings) -> dict[int, str]:
    """Which of the frames get a damaged file, and how: index -> "truncated" or "flipped" (CBF only).

    >>> damaged_frames(SimulationSettings(n_frames=4, damaged_files=0))
    {}
    """
    rng = generator(settings, 3, settings.start_index)
    chosen = sorted(rng.choice(settings.n_frames, settings.damaged_files, replace=False) + settings.start_index)
    kinds = ("truncated", "flipped") if settings.file_format == "cbf" else ("truncated",)
    return {int(index): kinds[i % len(kinds)] for i, index in enumerate(chosen)}


def write_growing(path: Path, content: bytes, pieces: int) -> Iterator[int]:
    """Write a file under its final name in parts, as detectors do; yields the bytes written after each part."""
    edges = [len(content) * part // pieces for part in range(pieces + 1)]
    with path.open("wb", buffering=0) as file:
        for start, stop in pairwise(edges):
            file.write(content[start:stop])
            yield stop


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def second_folder_of(folder: Path) -> Path:
    """Where the second exposures of a scan in `folder` go, with the same file names.

    >>> second_folder_of(Path("data/film")).as_posix()
    'data/film_second'
    """
    return folder.with_name(f"{folder.name}_second")


def write_scan(
    folder: Path | str,
    settings: SimulationSettings,
    rate_hz: float | None = None,
    pieces: int = 1,
    truth_folder: Path | str | None = None,
    workers: int = 1,
) -> list[Path]:
    """Write the frames `start_index` to `start_index + n_frames - 1`; returns the detector files in order.

    rate_hz        frames per second; None: as fast as this machine can. Too high a rate is missed with a warning
    pieces         1: every file appears whole (temporary name, then renamed); more: it grows in that many parts
    truth_folder   outside `folder`: gets one `<scan>_00001.npz` per frame with `expected` (y, x) float32, `gapless`
                   (y, x) int32, `sample`, `progress`, `index` and `damage` ("" where the file is whole); 20 MB each
                   for a PILATUS 2M
    workers        frames that are simulated at once, in threads; the files are the same for every number

    With second exposures in the settings they follow their frames, whole, undamaged and under the same names, into
    the folder that `second_folder_of` gives.

    Raises SettingError if `pieces`, `rate_hz` or `workers` is not positive or the truth would lie in a scan's folder,
    and FileExistsError, before anything is written, if one of the detector files is already there.
    """
    folder, truth = Path(folder), None if truth_folder is None else Path(truth_folder)
    second = second_folder_of(folder.absolute()) if settings.second_exposure_shift_px else None
    _check(folder, second, rate_hz, pieces, truth, workers)
    indices = range(settings.start_index, settings.start_index + settings.n_frames)
    paths = [frame_path(folder, settings, index) for index in indices]
    for each in filter(None, (folder, second)):
        _refuse_existing([each / path.name for path in paths])
    for needed in filter(None, (folder, second, truth)):
        needed.mkdir(parents=True, exist_ok=True)
    start: float | None = None
    late = 0
    for turn, (path, made) in enumerate(zip(paths, _made_ahead(settings, workers), strict=True)):
        if rate_hz is not None:
            now = time.monotonic()
            start = start or now  # the clock runs from the first frame, which pays for the scene and the imports
            wait = start + turn / rate_hz - now
            late += wait < -_LATE / rate_hz
            time.sleep(max(wait, 0.0))
        _deliver(path, made.content, sidecar(settings, made.index), pieces, rate_hz)
        if second is not None and made.second is not None:
            _deliver(second / path.name, made.second, sidecar(settings, made.index, 2), 1, None)
        if truth is not None:
            _write_truth(truth / f"{path.stem}.npz", made)
    if late:
        logger.warning("%d of %d frames came later than %g frames/s demand", late, len(paths), rate_hz)
    return paths


@dataclass(frozen=True, eq=False)
class _Made:
    index: int
    frame: SimulatedFrame
    damage: str
    content: bytes
    second: bytes | None


def _make(settings: SimulationSettings, index: int, kind: str) -> _Made:
    frame = simulate_frame(settings, index)
    content = encode_frame(frame.counts, settings, index)
    if kind:
        content = damage(content, settings, kind, generator(settings, 4, index))
    second = None
    if settings.second_exposure_shift_px:
        second = encode_frame(simulate_frame(settings, index, 2).counts, settings, index, 2)
    return _Made(index, frame, kind, content, second)


def _made_ahead(settings: SimulationSettings, workers: int) -> Iterator[_Made]:
    """The frames in order, each made while its predecessor is being written: a growing file takes half its time."""
    damaged = damaged_frames(settings)
    pending: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for index in range(settings.start_index, settings.start_index + settings.n_frames):
            if len(pending) == workers:
                made = pending.popleft().result()
                pending.append(pool.submit(_make, settings, index, damaged.get(index, "")))
                yield made
            else:
                pending.append(pool.submit(_make, settings, index, damaged.get(index, "")))
        while pending:
            yield pending.popleft().result()


def _check(
    folder: Path, second: Path | None, rate_hz: float | None, pieces: int, truth: Path | None, workers: int
) -> None:
    if rate_hz is not None and not rate_hz > 0:
        raise SettingError(f"rate_hz is {rate_hz}; give frames per second above 0, or None for no limit")
    if pieces < 1:
        raise SettingError(f"pieces is {pieces}; give 1 for whole files or more for growing ones")
    if workers < 1:
        raise SettingError(f"workers is {workers}; give the number of frames to simulate at once, at least 1")
    for scan in filter(None, (folder, second)):
        if truth is not None and truth.resolve().is_relative_to(scan.resolve()):
            raise SettingError(
                f"truth_folder {truth} lies in the scan's folder {scan}; give a folder elsewhere, so that no reader "
                "can take the truth for data"
            )


def _refuse_existing(paths: list[Path]) -> None:
    if existing := [path.name for path in paths if path.exists()]:
        raise FileExistsError(
            f"{len(existing)} of {len(paths)} files are already in {paths[0].parent}, the first is {existing[0]}; give "
            "another folder or scan name, or a start_index behind the last frame there"
        )


def _deliver(path: Path, content: bytes, beside: bytes | None, pieces: int, rate_hz: float | None) -> None:
    if beside is not None:
        write_whole(path.with_suffix(".txt"), beside)
    if pieces == 1:
        write_whole(path, content)
        return
    pause_s = _PAUSE_S if rate_hz is None else 0.5 / rate_hz / (pieces - 1)  # a file grows for half its frame's time
    for written in write_growing(path, content, pieces):
        if written < len(content):
            time.sleep(pause_s)


def _write_truth(path: Path, made: _Made) -> None:
    # Not compressed: zlib would take three times as long as all the rest of a frame.
    np.savez(
        path,
        expected=made.frame.expected,
        gapless=made.frame.gapless,
        sample=np.array(made.frame.sample),
        progress=np.array(made.frame.progress),
        index=np.array(made.index),
        damage=np.array(made.damage),
    )
