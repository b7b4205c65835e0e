"""Reading detector files: the only place that opens them.

find_files    which files a folder, file or glob means, in natural order
peek_file     what a header promises
open_file     verified frames of one file, of which no more than a few are in memory
header_facts  exposure, time, cutoff, detector, geometry from any header
valid_pixels  which pixels were measured, by a `ValidityRule`

A new format is a module with `index` and `frames` (see `stack.Format`), entered in `names.SUFFIXES` and in `opening`.
"""

from tasks.readers.files import find_files
from tasks.readers.frames import FilePeek, Frame, FrameFile
from tasks.readers.gaps import gap_valid
from tasks.readers.headers import HeaderFacts, header_facts
from tasks.readers.linked import files_behind
from tasks.readers.names import (
    file_format,
    find_doubles,
    frame_number,
    natural_key,
    packed_otherwise,
    series_and_number,
    unpacked,
)
from tasks.readers.opening import open_file, peek_file
from tasks.readers.validity import ValidityRule, check_rule, valid_pixels

__all__ = [
    "FilePeek",
    "Frame",
    "FrameFile",
    "HeaderFacts",
    "ValidityRule",
    "check_rule",
    "file_format",
    "files_behind",
    "find_doubles",
    "find_files",
    "frame_number",
    "gap_valid",
    "header_facts",
    "natural_key",
    "open_file",
    "packed_otherwise",
    "peek_file",
    "series_and_number",
    "unpacked",
    "valid_pixels",
]
