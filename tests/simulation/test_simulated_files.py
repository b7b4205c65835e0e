"""Simulated files are what detectors write: other software reads them back, checksums and sizes are right."""

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import fabio
import numpy as np
import pytest
import tifffile

from deployments.simulated_beamtime import DETECTORS, FILE_FORMATS, SimulatedFrame, SimulationSettings, simulate_frame
from deployments.simulated_beamtime.formats import damage, encode_frame, sidecar

CBF_START = b"\x0c\x1a\x04\xd5"


def settings_for(file_format: str, detector: str = "Pilatus300k") -> SimulationSettings:
    return SimulationSettings(detector=detector, file_format=file_format, samples=("saxs_spheres",), scan="test")


@pytest.fixture(scope="module")
def frame() -> SimulatedFrame:
    return simulate_frame(settings_for("cbf"), 4)


def write(folder: Path, file_format: str, frame: SimulatedFrame, detector: str = "Pilatus300k") -> Path:
    path = folder / f"frame.{ {'edf_als': 'edf', 'tiff': 'tif'}.get(file_format, file_format) }"
    path.write_bytes(encode_frame(frame.counts, settings_for(file_format, detector), 4))
    return path


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("file_format", FILE_FORMATS)
def test_fabio_reads_every_count_back(tmp_path: Path, file_format: str, detector: str) -> None:
    frame = simulate_frame(settings_for(file_format, detector), 4)
    with fabio.open(write(tmp_path, file_format, frame, detector)) as image:
        wanted = np.maximum(frame.counts, 0) if file_format == "edf_als" else frame.counts
        np.testing.assert_array_equal(image.data, wanted)
        assert image.data.dtype == np.int32
        wanted_class = {"cbf": "CbfImage", "tiff": "PilatusImage"}.get(file_format, "EdfImage")
        assert type(image).__name__ == wanted_class


def test_same_settings_give_the_same_bytes(frame: SimulatedFrame) -> None:
    for file_format in FILE_FORMATS:
        once, again = (encode_frame(frame.counts, settings_for(file_format), 4) for _ in range(2))
        assert once == again
        assert once != encode_frame(frame.counts, settings_for(file_format), 5)  # the date differs


def test_cbf_checksum_and_sizes_are_those_of_the_data(frame: SimulatedFrame) -> None:
    content = encode_frame(frame.counts, settings_for("cbf"), 4)
    header, rest = content.split(CBF_START, 1)
    fields = dict(re.findall(r"([A-Z][\w-]+): ?(.*)\r\n", header.decode("ascii").split("BINARY-FORMAT", 1)[1]))
    packed = rest[: int(fields["X-Binary-Size"])]
    assert fields["Content-MD5"] == b64encode(hashlib.md5(packed).digest()).decode()
    assert int(fields["X-Binary-Number-of-Elements"]) == frame.counts.size
    shape = (int(fields["X-Binary-Size-Second-Dimension"]), int(fields["X-Binary-Size-Fastest-Dimension"]))
    assert shape == frame.counts.shape
    padding = int(fields["X-Binary-Size-Padding"])
    assert rest[len(packed) :] == bytes(padding) + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n\r\n"


def layout(path: Path) -> tuple[list[str], bytes]:
    """The words that stay the same from file to file, in order, and what follows the padding."""
    header, rest = path.read_bytes().split(CBF_START, 1)
    lines = [re.split(r"[\s:=]", line.removeprefix("# "))[0] for line in header.decode("ascii").split("\r\n")]
    fixed = [word for word in lines if re.match(r"[A-Za-z_;#-]", word) and not word.startswith("data_")]
    return fixed, rest[-44:]


def test_cbf_has_every_line_of_a_real_one_in_its_order(
    tmp_path: Path, frame: SimulatedFrame, real_frames: Path
) -> None:
    real = sorted((real_frames / "cbf" / "p03_gisaxs").glob("*.cbf"))[0]
    (wanted, wanted_end), (ours, our_end) = layout(real), layout(write(tmp_path, "cbf", frame))
    added = {"Wavelength", "Detector_distance", "Beam_xy"}
    assert [word for word in ours if word not in added] == wanted
    assert added <= set(ours)
    assert our_end == wanted_end


def test_text_header_tells_the_geometry(tmp_path: Path, frame: SimulatedFrame) -> None:
    with fabio.open(write(tmp_path, "cbf", frame)) as image:
        text = image.header["_array_data.header_contents"]
        assert image.header["_array_data.header_convention"] == "PILATUS_1.2"
    assert "# Detector: PILATUS3 300K, S/N 3-0000, simulated" in text
    assert re.search(r"# 2026-01-15T08:00:04\.003", text)
    for line in ("# Pixel_size 172e-6 m x 172e-6 m", "# Exposure_time 1.0000000 s", "# Count_cutoff 1048575 counts"):
        assert line in text
    assert "# Wavelength 1.23984 A" in text
    assert "# Detector_distance 1.20000 m" in text
    assert "# Beam_xy (251.78, 433.30) pixels" in text  # 0.517 * 487, 0.70 * 619
    assert f"# N_excluded_pixels = {(frame.counts == -2).sum()}" in text


@pytest.mark.parametrize("file_format", ["edf", "edf_als"])
def test_edf_is_as_long_as_its_size_says(frame: SimulatedFrame, file_format: str) -> None:
    content = encode_frame(frame.counts, settings_for(file_format), 4)
    end = content.index(b"}\n") + 2
    size = int(re.search(rb"Size\s+= (\d+) ;", content[:end])[1])
    assert end % 1024 == 0
    assert len(content) == end + size
    assert size == frame.counts.nbytes


def test_als_edf_has_no_negative_value_and_a_text_beside(frame: SimulatedFrame) -> None:
    content = encode_frame(frame.counts, settings_for("edf_als"), 4)
    counts = np.frombuffer(content[content.index(b"}\n") + 2 :], "<i4").reshape(frame.counts.shape)
    assert counts.min() == 0
    assert (counts[frame.counts < 0] == 0).all()
    lines = sidecar(settings_for("edf_als"), 4).decode("ascii").split("\r\r\n")
    assert [float(line) for line in lines[:3]] == [60000.0, 39000.0, 31800.0]
    assert "Beam Current: 500.000000" in lines
    assert sidecar(settings_for("edf"), 4) is None


def test_tiff_carries_the_detectors_text(tmp_path: Path, frame: SimulatedFrame) -> None:
    with tifffile.TiffFile(write(tmp_path, "tiff", frame)) as tiff:
        tags = tiff.pages[0].tags
        assert tags["ImageDescription"].value.startswith("# Pixel_size 172e-6 m x 172e-6 m\r\n# Silicon sensor")
        assert "# Count_cutoff 1048575 counts" in tags["ImageDescription"].value
        assert tags["Model"].value == "PILATUS3 300K, S/N 3-0000"
        assert tags["DateTime"].value == "2026:01:15 08:00:04"
        np.testing.assert_array_equal(tiff.pages[0].asarray(), frame.counts)


def test_damage_is_what_it_is_called(frame: SimulatedFrame) -> None:
    rng = np.random.default_rng(0)
    content = encode_frame(frame.counts, settings_for("cbf"), 4)
    short = damage(content, settings_for("cbf"), "truncated", rng)
    assert content.startswith(short)
    assert 0.3 * len(content) - 1 <= len(short) < 0.9 * len(content)
    for _ in range(20):
        flipped = damage(content, settings_for("cbf"), "flipped", rng)
        (position,) = np.flatnonzero(np.frombuffer(content, np.uint8) != np.frombuffer(flipped, np.uint8))
        start = content.index(CBF_START) + 4
        size = int(re.search(rb"X-Binary-Size: (\d+)", content)[1])
        assert start <= position < start + size
    with pytest.raises(ValueError, match="only a CBF has a checksum"):
        damage(content, settings_for("edf"), "flipped", rng)
