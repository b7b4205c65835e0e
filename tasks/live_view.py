"""The live latent map of a scan that is still growing: fitted and drawn beside the work, a few times a minute."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dlsia_core.live_map import LiveMap, LiveMapSettings, fit_live_map
from dlsia_core.resize import AreaResizer
from tasks.report import LatentMap, frames_with_thumbnail
from tasks.report.document import write_document
from tasks.report.live_page import live_picture
from tasks.settings.follow import FollowSettings
from tasks.settings.stages import ClusterSettings
from tasks.store import ArrayRef, open_store

FEATURE = (24, 24)
"""Rows and columns of the small frames that are compared; kept for all frames, 1.2 kB each."""
THUMBNAIL = (48, 48)
MAX_THUMBNAILS = 200
MAX_POINTS = 2000
MAX_FITTED = 1024
FRAMES_AT_ONCE = 64
SHARE_OF_TIME = 0.2
"""Drawing takes no more of a core than this."""

Float = npt.NDArray[np.float32]
Facts = Sequence[tuple[str, str]]
Done = TypeVar("Done")


@dataclass(frozen=True)
class Drawn:
    """A picture that was shown: frames on it, and when (seconds since 1970)."""

    n_frames: int
    at: float


@dataclass(frozen=True, eq=False)
class _Placed:
    fitted: LiveMap
    places: Float
    clusters: npt.NDArray[np.int64]


class LiveView:
    """Takes normalized frames as they come, and shows where they lie.

    page: HTML file that is written anew. show: gets each picture in Markdown. One thread fits and draws, so that
    ingest goes on meanwhile.
    """

    def __init__(
        self,
        normalized: ArrayRef,
        page: Path,
        settings: FollowSettings,
        cluster: ClusterSettings,
        show: Callable[[str], None],
    ) -> None:
        self.page = page
        self._normalized, self._settings, self._show = normalized, settings, show
        self._fit_settings = LiveMapSettings(
            n_neighbors=cluster.n_neighbors,
            min_dist=cluster.min_dist,
            min_cluster_size=cluster.min_cluster_size,
            seed=cluster.seed,
        )
        self._features: list[npt.NDArray[np.float16]] = []
        self._thumbnails: dict[int, Float] = {}
        self._stride = 1
        self._placed: _Placed | None = None
        self._pool = ThreadPoolExecutor(1, "live-map")
        self._fitting: Future[_Placed] | None = None
        self._drawing: Future[Drawn] | None = None
        self._fitted_at = 0
        self._drawn = 0
        self._draw_at = 0.0
        self.n_frames = 0
        """Frames taken."""

    def take(self, n_frames: int) -> int:
        """Take some of the frames that are normalized (n_frames of them) and not taken yet; return how many."""
        start, stop = self.n_frames, min(n_frames, self.n_frames + FRAMES_AT_ONCE)
        if stop <= start:
            return 0
        frames = open_store(self._normalized.scan).read(self._normalized.path, start, stop)
        feature = AreaResizer(frames.shape[1:], _within(FEATURE, frames.shape[1:]), 0.1)
        thumbnail = AreaResizer(frames.shape[1:], _within(THUMBNAIL, frames.shape[1:]), 0.1)
        small = [_small(feature, frame).ravel() for frame in frames]
        self._features.append(np.nan_to_num(np.array(small)).astype(np.float16))
        for row, frame in enumerate(frames, start):
            if row % self._stride == 0:
                self._thumbnails[row] = _small(thumbnail, frame)
        while len(self._thumbnails) > MAX_THUMBNAILS:
            self._stride *= 2
            self._thumbnails = {row: image for row, image in self._thumbnails.items() if row % self._stride == 0}
        self.n_frames = stop
        return stop - start

    def advance(self, facts: Facts) -> Drawn | None:
        """Fit or draw where it is due, without waiting for it; return the picture that was shown since, if any."""
        drawn = self._collect()
        if self._fitting is None and self._drawing is None:
            if self.n_frames >= max(self._settings.map_from_frames, 2 * self._fitted_at):
                self._fitted_at = self.n_frames
                self._fitting = self._submit(self._fit, self._all_features(), self._placed)
            elif time.monotonic() >= self._draw_at and self.n_frames > self._drawn:
                self._drawing = self._submit(self._draw, facts, self._all_features(), dict(self._thumbnails))
        return drawn

    def close(self, facts: Facts) -> Drawn | None:
        """Draw all frames that were taken, and let the thread go."""
        last = self._collect(wait=True)
        if self.n_frames > self._drawn:
            self._drawing = self._submit(self._draw, facts, self._all_features(), dict(self._thumbnails))
            last = self._collect(wait=True) or last
        self._pool.shutdown()
        return last

    def _collect(self, wait: bool = False) -> Drawn | None:
        drawn = None
        if self._fitting is not None and (wait or self._fitting.done()):
            fitting, self._fitting = self._fitting, None
            self._placed = fitting.result()
            self._drawn = 0
        if self._drawing is not None and (wait or self._drawing.done()):
            drawing, self._drawing = self._drawing, None
            drawn = drawing.result()
        return drawn

    def _submit(self, work: Callable[..., Done], *arguments: Any) -> "Future[Done]":
        # With the context of the run, which knows the server.
        return self._pool.submit(copy_context().run, work, *arguments)

    def _all_features(self) -> npt.NDArray[np.float16]:
        self._features = [np.concatenate(self._features)]
        return self._features[0]

    def _fit(self, features: npt.NDArray[np.float16], before: _Placed | None) -> _Placed:
        chosen = frames_with_thumbnail(len(features), MAX_FITTED)
        sample = features[chosen].astype(np.float32)
        fitted = fit_live_map(sample, self._fit_settings, None if before is None else before.fitted)
        return _Placed(fitted, *_place(fitted, features))

    def _draw(self, facts: Facts, features: npt.NDArray[np.float16], thumbnails: dict[int, Float]) -> Drawn:
        started, n_frames = time.monotonic(), len(features)
        latent = None if self._placed is None else self._latent_map(self._all_placed(features), thumbnails)
        picture = live_picture(self._name, facts, latent, self._settings.map_every_s)
        write_document(picture.page, self.page)
        self._show(picture.markdown)
        seconds = time.monotonic() - started
        self._drawn = n_frames
        self._draw_at = time.monotonic() + max(self._settings.map_every_s, seconds / SHARE_OF_TIME)
        return Drawn(0 if latent is None else n_frames, time.time())

    def _all_placed(self, features: npt.NDArray[np.float16]) -> "_Placed":
        """Every frame with its place: those that came since the map was fitted lie among their neighbors."""
        assert self._placed is not None
        if (known := len(self._placed.places)) < len(features):
            places, clusters = _place(self._placed.fitted, features[known:])
            joined = np.concatenate([self._placed.places, places]), np.concatenate([self._placed.clusters, clusters])
            self._placed = _Placed(self._placed.fitted, *joined)
        return self._placed

    @property
    def _name(self) -> str:
        return Path(self._normalized.scan.path).name.removesuffix(".zarr")

    def _latent_map(self, placed: _Placed, thumbnails: dict[int, Float]) -> LatentMap:
        store, n_frames = open_store(self._normalized.scan), len(placed.places)
        # The newest frames are always drawn.
        rows = np.union1d(frames_with_thumbnail(n_frames, MAX_POINTS), np.arange(max(0, n_frames - 100), n_frames))
        shown = np.intersect1d(rows, list(thumbnails))
        names, numbers = store.read("frame_name", 0, n_frames), store.read("frame_number", 0, n_frames)
        return LatentMap(
            coordinates=placed.places[rows],
            cluster=placed.clusters[rows],
            frame_names=[str(names[row]) for row in rows],
            frame_numbers=numbers[rows],
            thumbnails=np.stack([thumbnails[int(row)] for row in shown]),
            thumbnail_of=np.searchsorted(rows, shown),
        )


def _place(fitted: LiveMap, features: npt.NDArray[np.float16]) -> tuple[Float, npt.NDArray[np.int64]]:
    return fitted.place(features.astype(np.float32))


def _within(shape: tuple[int, int], frame: tuple[int, ...]) -> tuple[int, int]:
    return min(shape[0], frame[0]), min(shape[1], frame[1])


def _small(resizer: AreaResizer, frame: Float) -> Float:
    values, _ = resizer.resize(np.nan_to_num(frame), np.isfinite(frame))
    return values
