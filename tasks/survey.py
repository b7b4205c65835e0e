"""Look at a source before any work: which frames are new, incomplete or double, and whether they fit together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import FrameReadError, SourceError
from tasks.readers import (
    FilePeek,
    ValidityRule,
    check_rule,
    file_format,
    files_behind,
    find_doubles,
    find_files,
    open_file,
    packed_otherwise,
    peek_file,
)
from tasks.readers.content import CANNOT_OPEN
from tasks.settings import confine
from tasks.settings.paths import allowed_roots
from tasks.store import FrameRecord, FrameState
from tasks.store.ledger import FrameLedger

UNREADABLE = "could not be read"
"""Begins the reason of frames that the file system did not give out: the next run tries them again."""
GONE = 0, 0
"""State of a file that was listed, and is not there any more; whatever comes back is tried again."""
STRAYS = 10
"""Of so many files that agree, one may declare another shape and be damaged, and is quarantined."""


@dataclass(frozen=True)
class Survey:
    """What a source holds, beside what the ledger knows."""

    new: Sequence[FrameRecord]
    """Pending, quarantined and double frames that the ledger does not know in this state, in natural order."""
    shape: tuple[int, int] | None
    """(y, x) of the new frames; None if there are none."""
    dtype: str | None
    n_files: int
    detectors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


NOTHING_NEW = Survey((), None, None, 0)
"""Of a store that is processed from what it holds, without looking for files."""


def survey_source(source: str, ledger: FrameLedger | None, rule: ValidityRule) -> Survey:
    """List the frames of a folder, file or glob, reading headers only, and only of files that are new or changed.

    Raises `SourceError` for an empty source, one outside the allowed roots, or frames of several shapes or types, and
    `SettingsError` for a rule of validity that does not fit the frames.
    """
    check_rule(rule)
    files = [_named_in_full(file) for file in find_files(source)]
    _refuse_what_is_outside(files)
    doubles = find_doubles(files) | _held_packed_otherwise(files, ledger)
    unknown = [file for file in files if file not in doubles and not _is_known(file, ledger)]
    with ThreadPoolExecutor(8) as pool:
        peeks = list(pool.map(_peek, unknown))
    peeks = _without_strays(peeks)
    readable = [peek for peek in peeks if isinstance(peek, FilePeek)]
    _refuse_mixture(source, readable)
    if readable:
        check_rule(rule, readable[0].shape)
    records = [_double(file, kept) for file, kept in doubles.items() if not _is_known(file, ledger)]
    warnings: list[str] = []
    for file, peek in zip(unknown, peeks, strict=True):
        records += _records_of(file, peek, ledger, warnings)
    return Survey(
        records,
        readable[0].shape if readable else None,
        readable[0].dtype if readable else None,
        len(files),
        tuple(sorted({peek.detector for peek in readable if peek.detector})),
        tuple(warnings),
    )


def _refuse_what_is_outside(files: Sequence[Path]) -> None:
    """Raise `SourceError` for files outside the allowed roots, and for HDF5 files that show such files as their own."""
    roots = allowed_roots("source")
    if not roots:
        return
    for file in files:
        confine(file, "source", roots)
        for behind in files_behind(file) if file_format(file) == "hdf5" else ():
            try:
                confine(behind, "source", roots)
            except SourceError as error:
                raise SourceError(f"{file} links to another file: {error}") from error


def _named_in_full(file: Path) -> Path:
    # Links to folders are followed, so that one folder has one name; a link to a file stays a frame of its own.
    return file.parent.resolve() / file.name


def _held_packed_otherwise(files: Sequence[Path], ledger: FrameLedger | None) -> dict[Path, Path]:
    """Files whose frame was ingested from a packed copy, or from the original, as when scans are packed later."""
    if ledger is None:
        return {}
    return {
        file: other
        for file in files
        if not _is_ingested(file, ledger)
        for other in packed_otherwise(file)
        if _is_ingested(other, ledger)
    }


def _is_ingested(file: Path, ledger: FrameLedger) -> bool:
    return any(record.state is FrameState.INGESTED for record in ledger.of_file(str(file)))


def _is_known(file: Path, ledger: FrameLedger | None) -> bool:
    records = ledger.of_file(str(file)) if ledger else []
    if not records:
        return False
    state = _state_of(file)
    return all(
        (record.size_bytes, record.mtime_ns) == state
        and not record.reason.startswith(UNREADABLE)
        and CANNOT_OPEN not in record.reason  # it may have been away for a while, and be back as it was
        for record in records
    )


def _state_of(file: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; those of an HDF5 master cover the files that it links to."""
    if file_format(file) == "hdf5" and isinstance(peek := _peek(file), FilePeek):
        return peek.size_bytes, peek.mtime_ns
    for follow_symlinks in (True, False):  # a link to nowhere has a state too
        try:
            status = file.stat(follow_symlinks=follow_symlinks)
        except FileNotFoundError:
            continue
        return status.st_size, status.st_mtime_ns
    return GONE


def _peek(file: Path) -> FilePeek | FrameReadError:
    try:
        return peek_file(file)
    except FrameReadError as error:
        return error
    except OSError as error:
        return FrameReadError(f"{UNREADABLE}: {error}; the next run tries again")


def _double(file: Path, kept: Path) -> FrameRecord:
    reason = f"the same frame as {kept.name}, packed otherwise"
    return FrameRecord(str(file), 0, FrameState.DOUBLE, *_state_of(file), reason=reason)


def _records_of(
    file: Path, peek: FilePeek | FrameReadError, ledger: FrameLedger | None, warnings: list[str]
) -> Iterable[FrameRecord]:
    known = {record.index: record for record in (ledger.of_file(str(file)) if ledger else [])}
    if isinstance(peek, FrameReadError):
        if not known or known[0].state is not FrameState.INGESTED:
            yield FrameRecord(str(file), 0, FrameState.QUARANTINED, *_state_of(file), reason=str(peek))
        else:
            warnings.append(f"{file.name} was ingested whole, and is damaged now: {peek}")
        return
    if _was_altered(file, known, peek.n_frames):
        warnings.append(
            f"{file.name} has changed since it was ingested; the store keeps what it held then. "
            "To take the new content, ingest it into another store"
        )
    for index in range(peek.n_frames):
        if index not in known or known[index].state is not FrameState.INGESTED:
            yield FrameRecord(str(file), index, FrameState.PENDING, peek.size_bytes, peek.mtime_ns)


def _was_altered(file: Path, known: dict[int, FrameRecord], n_frames: int) -> bool:
    ingested = [record for record in known.values() if record.state is FrameState.INGESTED]
    if not ingested or n_frames > len(known):
        return False
    with open_file(file) as opened:
        return bool(opened.sha256 != ingested[0].sha256)


def _without_strays(peeks: Sequence[FilePeek | FrameReadError]) -> list[FilePeek | FrameReadError]:
    """Refuse single damaged files whose header declares another shape or type: a night must not wait for one.

    Files that read whole are left to `_refuse_mixture`: they are of another scan, and so are more than one in `STRAYS`.
    """
    kinds = Counter((peek.shape, peek.dtype) for peek in peeks if isinstance(peek, FilePeek))
    if len(kinds) < 2:
        return list(peeks)
    usual, n_usual = kinds.most_common(1)[0]
    if (kinds.total() - n_usual) * STRAYS > n_usual:
        return list(peeks)
    return [
        _damage_of(peek, n_usual, usual) or peek
        if isinstance(peek, FilePeek) and (peek.shape, peek.dtype) != usual
        else peek
        for peek in peeks
    ]


def _damage_of(peek: FilePeek, n_usual: int, usual: tuple[tuple[int, int], str]) -> FrameReadError | None:
    """Why the first frame of a file of another shape cannot be read; None if it can."""
    try:
        with open_file(peek.path) as file:
            file.read(0)
    except (FrameReadError, OSError) as error:
        return FrameReadError(
            f"{peek.path}: declares {peek.shape[0]} x {peek.shape[1]} {peek.dtype}, where {n_usual} other files are "
            f"{usual}, and its header is damaged: {error}. Copy it again"
        )
    return None


def _refuse_mixture(source: str, peeks: Sequence[FilePeek]) -> None:
    groups: dict[tuple[tuple[int, int], str], list[FilePeek]] = defaultdict(list)
    for peek in peeks:
        groups[peek.shape, peek.dtype].append(peek)
    if len(groups) < 2:
        return
    lines = [
        f"  {shape[0]} x {shape[1]} {dtype}: {len(members)} files, for example {members[0].path.name}; "
        f"try source={_glob_for([peek.path for peek in members])!r}"
        for (shape, dtype), members in sorted(groups.items())
    ]
    raise SourceError(
        f"{source!r} holds frames of several shapes or types; a scan has one. Give a source that selects one group:\n"
        + "\n".join(lines)
    )


def _glob_for(files: Sequence[Path]) -> str:
    """A pattern that matches the files: their folder, common beginning and suffix.

    >>> _glob_for([Path("/d/a_1.cbf"), Path("/d/a_12.cbf")])
    '/d/a_1*.cbf'
    """
    if len(files) == 1:
        return str(files[0])
    first, last = min(file.name for file in files), max(file.name for file in files)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    suffixes = {"".join(file.suffixes[-2:]) for file in files}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    return str(files[0].parent / f"{first[:common].removesuffix(suffix)}*{suffix}")
