"""The two ways into a detector file of any format: a look at its header, and its frames."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from tasks.readers import cbf, edf, hdf5, stack, tiff
from tasks.readers.content import open_stored
from tasks.readers.frames import FilePeek, FrameFile, Layout
from tasks.readers.guard import check_frame_size, refusal
from tasks.readers.names import ALLOWED, file_format
from tasks.readers.packing import Source, packing, state_of, stored_bytes, unpack
from tasks.readers.remembered import Stamp

_STACKS: dict[str, stack.Format] = {"edf": edf, "tiff": tiff}


def peek_file(path: Path) -> FilePeek:
    """What the header promises; pixels are not decoded, packed files are unpacked only as far as needed.

    Raises
        FrameReadError: of an unknown kind, unreadable, or visibly incomplete (shorter than it declares itself).
    """
    name = _format(path)
    if name == "hdf5":
        with hdf5.opened(path) as file:
            return file.peek
    if name == "cbf":
        source = Source(path)
        return _peek(path, name, cbf.peek(source), source.stamp)
    if name == "edf" and path.suffix.lower() == ".gz":
        source = Source(path)
        if lone := edf.lone_layout(source):
            return _peek(path, name, lone, source.stamp)
    index, state = stack.peek(path, _STACKS[name])
    return _peek(path, name, index.layout, state)


@contextmanager
def open_file(path: Path) -> Iterator[FrameFile]:
    """Open a file and hand out its frames, each verified when it is read.

    Raises
        FrameReadError: of an unknown kind, incomplete or corrupt. Errors that time may heal (EIO, ESTALE) stay OSError.
    """
    name = _format(path)
    if name == "hdf5":
        with hdf5.opened(path) as file:
            yield file
    elif name == "cbf":
        yield _open_cbf(path)
    else:
        with stack.opened(path, _STACKS[name]) as found:
            yield FrameFile(_peek(path, name, found.index.layout, found.stamp), found.frame, found.digest)


def _open_cbf(path: Path) -> FrameFile:
    """A CBF file holds one frame, so that it is read whole."""
    with open_stored(path) as file:
        state = state_of(path, file)
        if packing(path):
            unpacked = unpack(path, file, state)
            with closing(unpacked.opened()) as opened:
                content = bytes(opened.at(0, opened.n_bytes))
        else:
            unpacked, content = None, stored_bytes(path, file, state)

    def digest() -> str:
        return unpacked.sha256 if unpacked else sha256(content).hexdigest()

    layout, frame = cbf.opened(path, content)
    return FrameFile(_peek(path, "cbf", layout, state), frame, digest)


def _format(path: Path) -> str:
    name = file_format(path)
    if name is None:
        raise refusal(path, "not a detector file by its suffix", f"Allowed are {ALLOWED}.")
    return name


def _peek(path: Path, name: str, layout: Layout, state: Stamp) -> FilePeek:
    check_frame_size(path, layout.shape, layout.dtype)
    return FilePeek(
        path=path,
        format=name,
        n_frames=layout.n_frames,
        shape=layout.shape,
        dtype=layout.dtype,
        size_bytes=state.size_bytes,
        mtime_ns=state.mtime_ns,
        detector=layout.detector,
    )
