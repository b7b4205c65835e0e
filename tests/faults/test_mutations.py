"""Mutated files of every format, through the flow: none is accepted whose values its format could tell are wrong."""

import bz2
import gzip
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.store import FrameState, ScanStore
from tasks.verify import verify_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

SHAPE = (40, 30)
MUTATED, INTACT = 32, 12
FORMATS = [
    *("a.cbf", "plain.cbf", "a.edf", "a.tif", "big.tif", "a_zlib.tif", "a.h5"),
    *("a.cbf.gz", "a.edf.bz2", "a.tif.gz", "latest.h5"),
]
Bytes = bytearray

_spec = importlib.util.spec_from_file_location("reader_fixtures", Path(__file__).parents[1] / "readers/conftest.py")
assert _spec
assert _spec.loader
_readers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_readers)
cbf_bytes = _readers.cbf_bytes


def frame_of(kind: str, number: int) -> NDArray[np.int32]:
    """Without a single 0 or negative value, so that nothing that is filled in can pass for data."""
    return np.random.default_rng([FORMATS.index(kind), number]).integers(1, 100_000, SHAPE, np.int32)


@pytest.fixture
def write_file(cbf_bytes: Callable[..., bytes]) -> Callable[[Path, str, NDArray[np.int32]], bytes]:
    def write(path: Path, kind: str, frame: NDArray[np.int32]) -> bytes:
        if kind == "plain.cbf":
            path.write_bytes(cbf_bytes(frame))
        elif kind == "latest.h5":
            with h5py.File(path, "w", libver="latest") as file:
                file.create_dataset("entry/data/data", data=frame[None], chunks=(1, *SHAPE), fletcher32=True)
        else:
            packed = path.suffix in (".gz", ".bz2")
            bare = path.with_suffix("") if packed else path
            # The writers look for "big" and "zlib" in the name.
            named = bare.with_name(kind.removesuffix(path.suffix) if packed else kind)
            _readers._WRITERS[bare.suffix](named, frame[None])
            content = named.read_bytes()
            named.unlink()
            pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
            path.write_bytes(pack(content))
        return path.read_bytes()

    return write


def unprotected(path: Path, kind: str, content: bytes, frame: NDArray[np.int32]) -> range:
    """Bytes of pixels that nothing in the file vouches for."""
    if kind == "plain.cbf":
        start = content.index(b"\x0c\x1a\x04\xd5") + 4
        return range(start, content.index(b"\r\n--CIF-BINARY-FORMAT-SECTION----"))
    if kind == "a.h5":
        with h5py.File(path) as file:
            chunk = file["entry/data/data"].id.get_chunk_info(0)
            return range(chunk.byte_offset, chunk.byte_offset + chunk.size)
    if kind in ("a.edf", "a.tif", "big.tif"):
        raw = frame.astype(">i4" if kind == "big.tif" else "<i4").tobytes()
        return range(content.index(raw), content.index(raw) + len(raw))
    return range(0)


def touches(content: bytes, mutated: Bytes, pixels: range) -> bool:
    """Whether the mutation changed such bytes, or moved them on by a byte that is too many; never if one is missing."""
    if len(mutated) != len(content):
        return len(mutated) > len(content)
    places = np.flatnonzero(np.frombuffer(mutated, np.uint8) != np.frombuffer(content, np.uint8))
    return bool(np.isin(places, np.array(pixels)).any())


def flipped(content: bytes, chance: random.Random) -> Bytes:
    mutated = Bytes(content)
    mutated[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return mutated


def flipped_in_header(content: bytes, chance: random.Random) -> Bytes:
    mutated = Bytes(content)
    mutated[chance.randrange(min(600, len(content)))] ^= 1 << chance.randrange(8)
    return mutated


def flipped_often(content: bytes, chance: random.Random) -> Bytes:
    mutated = Bytes(content)
    for _ in range(chance.randrange(2, 9)):
        mutated[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return mutated


def blanked(content: bytes, chance: random.Random) -> Bytes:
    """A block of zeros, as a disk or network leaves it that lost a write."""
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.choice([16, 512]))
    return Bytes(content[:start] + bytes(stop - start) + content[stop:])


def cut(content: bytes, chance: random.Random) -> Bytes:
    return Bytes(content[: chance.randrange(len(content))])


def shifted(content: bytes, chance: random.Random) -> Bytes:
    """A byte is lost, or comes twice."""
    place = chance.randrange(len(content))
    return Bytes(content[:place] + content[place + chance.choice([-1, 1]) :])


MUTATIONS = (flipped, flipped_in_header, flipped_in_header, flipped_often, blanked, cut, shifted, flipped)


def test_mutated_files_are_quarantined_or_read_as_what_they_were(
    tmp_path: Path, flow_runs: Any, write_file: Any, tally: Any, chance: random.Random
) -> None:
    """All formats in one scan; its intact files must come through as they are."""
    untellable: set[tuple[str, int]] = set()
    for kind in FORMATS:
        untellable |= {(kind, number) for number in write_mutated(tmp_path / "raw" / kind, kind, write_file, chance)}
    ended = flow_runs("ingest_scan", source=tmp_path / "raw" / "*" / "scan_*", store=tmp_path / "scan.zarr")
    assert ended["status"] == 0, ended
    assert "error" not in ended, ended
    store = ScanStore(tmp_path / "scan.zarr")
    ingested, refused = store.frames.ingested, store.frames.in_state(FrameState.QUARANTINED)
    assert {record.file for record in store.frames.all()} == {str(path) for path in tmp_path.glob("raw/*/*")}
    assert all(record.reason for record in refused)
    counts = store.read("counts", 0, len(ingested))
    found = {place(record.file): counts[row] for row, record in enumerate(ingested)}
    assert len(found) == len(ingested)
    wrong = {(kind, n) for (kind, n), values in found.items() if not np.array_equal(values, frame_of(kind, n))}
    assert wrong <= untellable, f"accepted as data: {sorted(wrong - untellable)}"
    intact = {(kind, number) for kind in FORMATS for number in range(MUTATED, MUTATED + INTACT)}
    assert intact <= found.keys() - wrong
    assert verify_store(store.path, deep=True).is_green
    for kind in FORMATS:
        mutated = {(kind, number) for number in range(MUTATED)}
        same, n_wrong = len(mutated & found.keys() - wrong), len(mutated & wrong)
        refused_here = len(mutated - found.keys())
        tally.add(f"mutated {kind}", trials=MUTATED, identical=same, quarantined=refused_here, untold=n_wrong)


def write_mutated(folder: Path, kind: str, write_file: Any, chance: random.Random) -> set[int]:
    """Write mutated files and intact ones; return the numbers of those whose mutation the format cannot tell."""
    untellable = set()
    folder.mkdir(parents=True)
    for number in range(MUTATED + INTACT):
        path, frame = folder / f"scan_{number:03d}{kind[kind.index('.') :]}", frame_of(kind, number)
        content = write_file(path, kind, frame)
        if number < MUTATED:
            pixels = unprotected(path, kind, content, frame)
            mutated = MUTATIONS[number % len(MUTATIONS)](content, chance)
            if pixels and touches(content, mutated, pixels):
                untellable.add(number)
            path.write_bytes(mutated)
    return untellable


def place(file: str) -> tuple[str, int]:
    """Format and number of a file."""
    return Path(file).parent.name, int(Path(file).name[5:8])
