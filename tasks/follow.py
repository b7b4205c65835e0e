"""Follow: frames of a growing scan are ingested and normalized as they fill shards, the map and the model behind them.

One task run follows for as long as a batch takes, so that a scan of hours makes no more task runs than a finished one.
The store is written as by a run on the finished scan: by one writer, in the same order, shard by shard.
"""

import time
from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np

from tasks.following import Arrived, GrowingScan
from tasks.ingest import counts_ref, ingest_batch, valid_ref
from tasks.live_inpainting import LiveInpainting
from tasks.live_view import Drawn, LiveView
from tasks.logs import logger_of
from tasks.normalize import normalize_batch
from tasks.settings.follow import FollowSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import NormalizeSettings
from tasks.stage import StageRun, stage_task
from tasks.store import ArrayRef, FrameRange, FrameRecord, FrameState, open_store
from tasks.workers import Workers

SHARDS_AT_ONCE = 4
"""More are taken by the next round, so that the map and the log keep up after a stall."""
SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class Latency:
    """Seconds from the last byte of a frame on disk, by the clock of its file system: median and worst."""

    median_s: float
    worst_s: float

    @classmethod
    def of(cls, seconds: "list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]") -> "Latency | None":
        """None where nothing was measured."""
        known = [float(value) for value in seconds if np.isfinite(value)]
        return cls(median(known), max(known)) if known else None


class Follower:
    """Takes frames as they come; everything that outlives a batch of one run. Times are of the monotonic clock."""

    def __init__(
        self,
        growing: GrowingScan,
        normalized: ArrayRef,
        settings: tuple[FollowSettings, IngestSettings, NormalizeSettings],
        workers: Workers,
        view: LiveView | None = None,
        inpainting: LiveInpainting | None = None,
    ) -> None:
        self.growing, self.view, self.inpainting = growing, view, inpainting
        self.scan = normalized.scan
        self._normalized, self._workers = normalized, workers
        self._follow, self._ingest, self._normalize = settings
        self._queue: deque[tuple[float, Arrived]] = deque()
        self._written: dict[int, float] = {}
        self.in_store_s: list[float] = []
        self.on_map_s: list[float] = []
        self.largest_backlog = 0
        self.misfits: list[str] = []
        self._started, self._said_at, self._said_frames = time.monotonic(), time.monotonic(), self.n_frames
        self._taken_before = self.n_frames
        self._n_normalized = 0

    @property
    def n_frames(self) -> int:
        """Frames in the store."""
        return len(open_store(self.scan).frames.ingested)

    @property
    def backlog(self) -> int:
        """Frames that are complete, and not in the store."""
        return sum(arrived.peek.n_frames for _, arrived in self._queue)

    def wait_for(self, arrived: list[Arrived]) -> None:
        """Put files in the queue; those of another shape than the scan's are left to the survey, which refuses them."""
        store, now = open_store(self.scan), time.monotonic()
        shape, dtype = tuple(store.attributes["frame_shape"]), store.attributes["dtype"]
        for one in arrived:
            if (one.peek.shape, one.peek.dtype) == (shape, dtype):
                self._queue.append((now, one))
            else:
                self.misfits.append(f"{one.peek.path.name}: {one.peek.shape} {one.peek.dtype}, not {shape} {dtype}")
                logger_of(__name__).warning("left out while the scan is followed: %s", self.misfits[-1])
        self.largest_backlog = max(self.largest_backlog, self.backlog)

    def follow(self, until_frame: int) -> bool:
        """Follow until the store holds so many frames, or the scan has ended; True if it has."""
        while True:
            looked_at = time.monotonic()
            self.wait_for(self.growing.look(looked_at))
            look_s = time.monotonic() - looked_at
            is_busy = self._advance()
            self._say()
            if self.n_frames >= until_frame:
                return False
            if not is_busy and not self._queue and self.growing.has_ended(looked_at):
                return True
            if not is_busy:
                # A look costs time where there are many files; it may take a tenth of it.
                time.sleep(max(self._follow.poll_s - look_s, 9 * look_s))

    def _advance(self) -> bool:
        """Do what is due: frames into the store first, then onto the map, then through the model."""
        is_busy = self._store_frames()
        self._normalize_new()
        if self.view is not None:
            is_busy |= self.view.take(self._n_normalized) > 0
            self._note_drawn(self.view.advance(self.facts()))
        if not is_busy and self.inpainting is not None:
            is_busy = self.inpainting.advance(self._n_normalized)
        return is_busy

    def _store_frames(self) -> bool:
        """Ingest and normalize what fills shards, and what has waited for long; False where there is nothing."""
        store = open_store(self.scan)
        first = self.n_frames
        chosen = self._chosen(first, time.monotonic())
        records = [
            FrameRecord(str(peek.path), index, FrameState.PENDING, peek.size_bytes, peek.mtime_ns)
            for peek in (one.peek for one in chosen)
            for index in range(peek.n_frames)
        ]
        if new := [record for record in records if store.frames.get(*record.key) is None]:
            store.frames.write(new)
        if not store.frames.in_state(FrameState.PENDING):
            self._forget(chosen)
            return bool(chosen)
        while store.frames.in_state(FrameState.PENDING):
            ingest_batch.fn(self.scan, self._ingest, self._workers)
        written = {str(one.peek.path): one.written_at for one in chosen}
        self._note_stored(first, written)
        self._forget(chosen)
        return True

    def _chosen(self, n_frames: int, now: float) -> list[Arrived]:
        """Files from the head of the queue that end on the border of a shard, or all that have waited for long."""
        shard_frames = open_store(self.scan).shard_frames
        held = n_frames % shard_frames
        room = min((held + self.backlog) // shard_frames, SHARDS_AT_ONCE) * shard_frames - held
        if room <= 0:
            is_overdue = bool(self._queue) and now - self._queue[0][0] >= self._follow.flush_s
            return [one for _, one in self._queue] if is_overdue else []
        chosen: list[Arrived] = []
        for _, one in self._queue:
            # A file of many frames is taken whole.
            if chosen and one.peek.n_frames > room:
                break
            chosen.append(one)
            room -= one.peek.n_frames
        return chosen

    def _forget(self, chosen: list[Arrived]) -> None:
        """Only now: whatever fails before is tried again."""
        for _ in chosen:
            self._queue.popleft()

    def _normalize_new(self) -> None:
        """Normalize what is in the store; at the start also what a killed run left."""
        if self.n_frames > self._n_normalized:
            counts, valid = counts_ref(self.scan), valid_ref(self.scan, self._ingest)
            frames = FrameRange(self._n_normalized, self.n_frames)
            normalize_batch.fn(frames, counts, valid, self._normalized, self._normalize, self._workers)
            self._n_normalized = frames.stop

    def _note_stored(self, first: int, written: dict[str, float]) -> None:
        at = time.time()
        for row, record in enumerate(open_store(self.scan).frames.ingested[first:], first):
            if record.file in written:
                if self.view is not None:
                    self._written[row] = written[record.file]
                self.in_store_s.append(at - written[record.file])

    def _note_drawn(self, drawn: Drawn | None) -> None:
        if drawn is not None:
            for row in [row for row in self._written if row < drawn.n_frames]:
                self.on_map_s.append(drawn.at - self._written.pop(row))

    def facts(self) -> list[tuple[str, str]]:
        """What has come so far, as names and values."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rows = [
            ("frames in the store", f"{self.n_frames:,}"),
            ("frames/s since the start", f"{(self.n_frames - self._taken_before) / seconds:.1f}"),
            ("backlog, frames", f"{self.backlog:,}"),
        ]
        if stored := Latency.of(self.in_store_s[-100:]):
            rows.append(("last byte to store, last 100 frames", f"{stored.median_s:.1f} s, worst {stored.worst_s:.1f}"))
        if drawn := Latency.of(self.on_map_s[-100:]):
            rows.append(("last byte to map, last 100 frames", f"{drawn.median_s:.1f} s, worst {drawn.worst_s:.1f}"))
        if self.inpainting is not None:
            rows.append(("inpainted", f"{self.inpainting.n_frames:,}"))
        return rows

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY_S and self.n_frames > self._said_frames:
            rate = (self.n_frames - self._said_frames) / (now - self._said_at)
            said = "; ".join(f"{name}: {value}" for name, value in self.facts())
            logger_of(__name__).info("follow: %.1f frames/s; %s", rate, said)
            self._said_at, self._said_frames = now, self.n_frames

    def close(self) -> None:
        """Show the last frames, and end the thread that draws."""
        if self.view is not None:
            self._note_drawn(self.view.close(self.facts()))


@dataclass(frozen=True)
class Followed:
    """What one task run saw."""

    run: StageRun
    has_ended: bool


@stage_task("follow")
def follow_batch(follower: Follower, batch_frames: int) -> Followed:
    """Follow until the next multiple of `batch_frames`, or to the scan's end."""
    started, first = time.monotonic(), follower.n_frames
    has_ended = follower.follow(first - first % batch_frames + batch_frames)
    frames = FrameRange(first, follower.n_frames)
    return Followed(StageRun("follow", frames, len(frames), time.monotonic() - started, 0), has_ended)
