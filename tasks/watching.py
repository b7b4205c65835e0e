"""Notice complete scans in a beamtime folder by looking again and again; no clock, no sleeping, no Prefect in here.

Polling works on every file system; GPFS, NFS and Lustre send no inotify events for what other machines write.
A scan is a folder that holds detector files; folders below the beamtime folder, and that folder itself, may be scans.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import FrameReadError, SourceError, StoreError
from tasks.readers.names import natural_key

MAX_DEPTH = 6


@dataclass(frozen=True)
class FileState:
    """Size in bytes and time of last change in nanoseconds since 1970, as the file system tells them."""

    size: int
    mtime_ns: int


Listing = dict[str, FileState]


@dataclass(frozen=True)
class CompleteScan:
    """A scan to which nothing is being added any more; `digest` changes when any of its files does."""

    name: str
    folder: Path
    digest: str
    files: int
    unreadable: int
    size_bytes: int
    last_write: datetime

    @property
    def key(self) -> str:
        """Name of this state of this scan: the same for two sightings, another one after the scan has grown."""
        return f"{self.folder}:{self.digest}"


def digest_of(listing: Listing) -> str:
    """Digest of names, sizes and times of change; the order of the files does not matter.

    >>> one = {"a.cbf": FileState(10, 1), "b.cbf": FileState(20, 2)}
    >>> digest_of(one) == digest_of(dict(reversed(one.items())))
    True
    """
    facts = [[name, state.size, state.mtime_ns] for name, state in sorted(listing.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def scan_listings(beamtime: Path, is_frame_file: Callable[[Path], bool]) -> Iterator[tuple[Path, Listing]]:
    """Yield each folder that holds detector files, with their states; hidden files and stores are passed over.

    A file or folder that vanishes while it is looked at is left out. Raises `SourceError` if the beamtime folder
    itself is not there.
    """
    if not beamtime.is_dir():
        raise SourceError(f"beamtime folder {beamtime} is not a folder; create it, or mount the disk it is on")
    waiting = [(beamtime, 0)]
    while waiting:
        folder, depth = waiting.pop()
        listing, subfolders = _look_into(folder, is_frame_file)
        if depth < MAX_DEPTH:
            waiting += [(subfolder, depth + 1) for subfolder in subfolders]
        if listing:
            yield folder, listing


def _look_into(folder: Path, is_frame_file: Callable[[Path], bool]) -> tuple[Listing, list[Path]]:
    listing: Listing = {}
    subfolders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if path.suffix != ".zarr":
                        subfolders.append(path)
                elif is_frame_file(path):
                    status = entry.stat()
                    listing[entry.name] = FileState(status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        return {}, []
    return listing, sorted(subfolders)


def scans_below(beamtime: Path, is_frame_file: Callable[[Path], bool]) -> dict[str, Path]:
    """Name to folder of each scan, in natural order of the names.

    Raises `SourceError` if the beamtime folder is not there, or holds a scan itself and another one of its own name.
    """
    folders = sorted((folder for folder, _ in scan_listings(beamtime, is_frame_file)), key=natural_key)
    if beamtime in folders and beamtime / beamtime.name in folders:
        raise SourceError(
            f"{beamtime} and {beamtime / beamtime.name} both hold frames, and would have one store; move the frames of "
            "one of them to a folder of another name"
        )
    return {scan_name(beamtime, folder): folder for folder in folders}


def scan_name(beamtime: Path, folder: Path) -> str:
    """The path below the beamtime folder, with '/' between folders; the folder's own name for itself.

    >>> scan_name(Path("/data/bt1"), Path("/data/bt1/day2/scan3")), scan_name(Path("/data/bt1"), Path("/data/bt1"))
    ('day2/scan3', 'bt1')
    """
    return folder.name if folder == beamtime else folder.relative_to(beamtime).as_posix()


def newest_file(beamtime: Path, is_frame_file: Callable[[Path], bool]) -> datetime | None:
    """When the newest detector file below the folder was changed, as its file system tells; None where there is none.

    Raises `SourceError` if the folder is not there.
    """
    listings = scan_listings(beamtime, is_frame_file)
    newest = max((state.mtime_ns for _, listing in listings for state in listing.values()), default=None)
    return None if newest is None else datetime.fromtimestamp(newest / 1e9, tz=UTC)


@dataclass
class ScanFolder:
    """What is known of one scan. Times are seconds of one steadily growing clock, which the caller reads."""

    name: str
    folder: Path
    quiet_s: float
    give_up_s: float
    listing: Listing = field(default_factory=dict)
    changed_at: float | None = None
    pace_s: float = 0.0
    readable: set[str] = field(default_factory=set)
    growths: int = 0
    """Looks that found files which were not there before."""

    def look(self, listing: Listing, now: float, peek: Callable[[Path], object]) -> None:
        """Take in a new listing; `peek` raises `FrameReadError` for a file that is not complete.

        A file is peeked at when it did not change between two looks, so that the work is spread over the scan; one
        that was found complete is not peeked at again, unless it changes.
        """
        changed = {name for name, state in listing.items() if self.listing.get(name) != state}
        self.growths += bool(listing.keys() - self.listing.keys())
        if changed or listing.keys() != self.listing.keys():
            self._note_pace(now)
        self.readable = (self.readable & listing.keys()) - changed
        self.listing = listing
        for name in sorted(listing.keys() - changed - self.readable):
            try:
                peek(self.folder / name)
            except (FrameReadError, FileNotFoundError):
                continue
            self.readable.add(name)

    def _note_pace(self, now: float) -> None:
        """Keep the longest wait between two changes, so that a scan of slow exposures is not cut into pieces."""
        if self.changed_at is not None and now - self.changed_at <= self.give_up_s:
            self.pace_s = max(self.pace_s, now - self.changed_at)
        self.changed_at = now

    def complete(self, now: float) -> CompleteScan | None:
        """Return the scan if it is complete: every file readable, nothing changed for a quiet time.

        The quiet time is `quiet_s`, or one and a half times the longest wait between two files, at most `give_up_s`.
        Files that stay unreadable hold it up for `give_up_s` and are then left to ingest, which quarantines them.
        """
        due_at, unreadable = self.due_at, len(self.listing) - len(self.readable)
        if due_at is None or now < due_at:
            return None
        return CompleteScan(
            name=self.name,
            folder=self.folder,
            digest=digest_of(self.listing),
            files=len(self.listing),
            unreadable=unreadable,
            size_bytes=sum(state.size for state in self.listing.values()),
            last_write=datetime.fromtimestamp(max(state.mtime_ns for state in self.listing.values()) / 1e9, tz=UTC),
        )

    @property
    def due_at(self) -> float | None:
        """When the scan is complete if nothing changes until then; None before the first look."""
        if self.changed_at is None:
            return None
        quiet_s = max(self.quiet_s, min(1.5 * self.pace_s, self.give_up_s))
        return self.changed_at + (quiet_s if len(self.readable) == len(self.listing) else self.give_up_s)


class Beamtime:
    """All scans of one beamtime folder."""

    def __init__(
        self,
        folder: Path,
        is_frame_file: Callable[[Path], bool],
        peek: Callable[[Path], object],
        quiet_s: float = 2.0,
        give_up_s: float = 30.0,
    ) -> None:
        self.folder = folder
        self.quiet_s = quiet_s
        self.give_up_s = give_up_s
        self._is_frame_file = is_frame_file
        self._peek = peek
        self._scans: dict[Path, ScanFolder] = {}

    def poll(self, now: float) -> list[CompleteScan]:
        """Look at the folder once; return the scans that are complete now, those returned before included."""
        seen: dict[Path, ScanFolder] = {}
        complete = []
        for folder, listing in scan_listings(self.folder, self._is_frame_file):
            scan = self._scans.get(folder) or ScanFolder(
                scan_name(self.folder, folder), folder, self.quiet_s, self.give_up_s
            )
            scan.look(listing, now, self._peek)
            seen[folder] = scan
            if found := scan.complete(now):
                complete.append(found)
        self._scans = seen
        return sorted(complete, key=lambda scan: (scan.last_write, scan.name))

    def growing(self, now: float) -> list[ScanFolder]:
        """The scans that the last look found incomplete."""
        return [scan for scan in self._scans.values() if scan.due_at is not None and now < scan.due_at]


class Announced:
    """Which states of which scans were announced, in a small file that survives restarts.

    A scan is noted after its event was sent, so that a watcher that is killed in between sends it twice rather than
    never; two events with one key give one run. `confirmed` says that the run was seen to exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, bool] = self._read()

    def _read(self) -> dict[str, bool]:
        try:
            facts = json.loads(self.path.read_text())
            return {str(key): bool(confirmed) for key, confirmed in facts["announced"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{self.path}, the watcher's memory, is damaged ({error}); delete it: every complete scan is then "
                "announced once more, which starts nothing that has run already"
            ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def knows(self, folder: Path) -> bool:
        """True if any state of the scan in the folder was announced."""
        return any(key.rpartition(":")[0] == str(folder) for key in self._keys)

    def unconfirmed(self) -> list[str]:
        """Return the keys whose run was not seen yet, oldest first."""
        return [key for key, confirmed in self._keys.items() if not confirmed]

    def note(self, key: str, *, confirmed: bool = False) -> None:
        """Remember the key; the file is replaced whole or not at all."""
        self._keys[key] = confirmed
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.partial")
        with part.open("w") as file:
            json.dump({"announced": self._keys}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
