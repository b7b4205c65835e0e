"""Detector files as bytes, laid out as the detectors and beamlines lay them out: CBF, EDF, TIFF.

Dates are made from the frame's index, so that the same settings give the same bytes on every machine.
"""

import hashlib
from base64 import b64encode
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from .detector import COUNT_CUTOFF
from .frames import Exposure, progress_of, scene_of, setup_of
from .settings import DetectorName, SimulationSettings
from .tiff import encode_tiff

ENDINGS = {"cbf": ".cbf", "edf": ".edf", "edf_als": ".edf", "tiff": ".tif"}
CBF_START = b"\x0c\x1a\x04\xd5"
_MODEL: dict[DetectorName, str] = {
    "Pilatus2M": "PILATUS3 2M, S/N 24-0000",
    "Pilatus1M": "PILATUS3 1M, S/N 10-0000",
    "Pilatus300k": "PILATUS3 300K, S/N 3-0000",
}
_CBF_END = b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n\r\n"
_FIRST_FRAME = datetime(2026, 1, 15, 8, 0, 0)
_READOUT_S = 0.95e-3
_PADDING = 4095  # zeros that follow the data in a detector's CBF


def encode_frame(counts: NDArray[np.int32], settings: SimulationSettings, index: int, exposure: Exposure = 1) -> bytes:
    """The whole file of frame `index` (from 0) in the format that the settings name; `counts` (y, x) int32."""
    if settings.file_format == "cbf":
        return _cbf(counts, settings, index, exposure)
    if settings.file_format == "tiff":
        text = "\r\n".join(_pilatus_text(settings, index, exposure, date=False)) + "\r\n"
        return encode_tiff(counts, text, _MODEL[settings.detector], taken_at(settings, index))
    if settings.file_format == "edf":
        return _edf(counts, settings, index, exposure)
    return _edf_als(counts, settings, index)


def sidecar(settings: SimulationSettings, index: int, exposure: Exposure = 1) -> bytes | None:
    """The `.txt` that ALS 7.3.3 writes beside an EDF; None for the other formats."""
    if settings.file_format != "edf_als":
        return None
    scene = scene_of(settings, index, exposure)
    i0 = 60_000.0 * settings.exposure_s
    lines = [f"{i0:.3f}", f"{0.65 * i0:.3f}", f"{0.53 * i0:.3f}", "Motors: 4"]
    lines += [f"Sample X Stage: {-13.1625 + 0.05 * index:.6f}", "Sample Alpha Stage: 0.600000"]
    lines += [f"Beamstop X: {scene.beam[1]:.6f}", f"Beamstop Y: {scene.beam[0]:.6f}"]
    lines += ["DIOs: 1", "Beamline Shutter Open: 1.000000", "AIs: 3", "Beam Current: 500.000000", f"Izero: {i0:.6f}"]
    lines += ["Vertical Beam Position: NaN", "!0 ", "Alpha_scan_positions="]
    return "".join(line + "\r\r\n" for line in lines).encode("ascii")


def damage(content: bytes, settings: SimulationSettings, kind: str, rng: np.random.Generator) -> bytes:
    """A file as a crashed writer ("truncated") or a bad disk ("flipped") leaves it.

    A flipped byte lies in the pixel data, where only the checksum of a CBF can notice it.
    """
    if kind == "truncated":
        return content[: int(len(content) * rng.uniform(0.3, 0.9))]
    if settings.file_format != "cbf":
        raise ValueError(f"only a CBF has a checksum that notices a flipped byte, not {settings.file_format!r}")
    start = content.index(CBF_START) + len(CBF_START)
    stop = len(content) - len(_CBF_END) - _PADDING
    position = int(rng.integers(start, stop))
    return content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]


def taken_at(settings: SimulationSettings, index: int) -> datetime:
    """When frame `index` (from 0) was taken, had the simulated beamtime really been."""
    return _FIRST_FRAME + timedelta(seconds=index * (settings.exposure_s + _READOUT_S))


def _pilatus_text(settings: SimulationSettings, index: int, exposure: Exposure, date: bool) -> list[str]:
    scene = scene_of(settings, index, exposure)
    lines = [
        "Pixel_size 172e-6 m x 172e-6 m",
        "Silicon sensor, thickness 0.000450 m",
        f"Exposure_time {settings.exposure_s:.7f} s",
        f"Exposure_period {settings.exposure_s + _READOUT_S:.7f} s",
        "Tau = 0 s",
        f"Count_cutoff {COUNT_CUTOFF} counts",
        "Threshold_setting: 5000 eV",
        "Gain_setting: autog (vrf = 1.000)",
        f"N_excluded_pixels = {scene.dead.size}",
        "Excluded_pixels: badpixel_mask.tif",
        "Flat_field: (nil)",
        "Trim_file: simulated_E10000_T5000.bin",
        f"Image_path: /simulated/{settings.scan}/",
        f"Wavelength {settings.wavelength_m * 1e10:.5f} A",
        f"Detector_distance {setup_of(settings, index).distance_m:.5f} m",
        f"Beam_xy ({scene.beam[1]:.2f}, {scene.beam[0]:.2f}) pixels",
    ]
    if date:
        moment = taken_at(settings, index).isoformat(timespec="milliseconds")
        lines = [f"Detector: {_MODEL[settings.detector]}, simulated", moment, *lines]
    return ["# " + line for line in lines]


def _cbf(counts: NDArray[np.int32], settings: SimulationSettings, index: int, exposure: Exposure) -> bytes:
    from fabio.compression import compByteOffset

    packed = compByteOffset(counts)
    lines = [
        "###CBF: VERSION 1.5, CBFlib v0.7.8 - PILATUS detectors",
        "",
        f"data_{settings.file_stem(index)}",
        "",
        '_array_data.header_convention "PILATUS_1.2"',
        "_array_data.header_contents",
        ";",
        *_pilatus_text(settings, index, exposure, date=True),
        ";",
        "",
        "_array_data.data",
        ";",
        "--CIF-BINARY-FORMAT-SECTION--",
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(packed)}",
        "X-Binary-ID: 1",
        'X-Binary-Element-Type: "signed 32-bit integer"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {b64encode(hashlib.md5(packed, usedforsecurity=False).digest()).decode()}",
        f"X-Binary-Number-of-Elements: {counts.size}",
        f"X-Binary-Size-Fastest-Dimension: {counts.shape[1]}",
        f"X-Binary-Size-Second-Dimension: {counts.shape[0]}",
        f"X-Binary-Size-Padding: {_PADDING}",
        "",
        "",
    ]
    return b"".join(["\r\n".join(lines).encode("ascii"), CBF_START, packed, bytes(_PADDING), _CBF_END])


def _edf_header(counts: NDArray[np.int32], more: list[tuple[str, str]]) -> bytes:
    pairs = [
        ("HeaderID", "EH:000001:000000:000000"),
        ("Image", "1"),
        ("ByteOrder", "LowByteFirst"),
        ("DataType", "SignedInteger"),
        ("Dim_1", str(counts.shape[1])),
        ("Dim_2", str(counts.shape[0])),
        ("Size", str(counts.nbytes)),
        *more,
    ]
    text = "{\n" + "".join(f"{key:<14} = {value} ;\n" for key, value in pairs)
    whole = -(-(len(text) + 2) // 1024) * 1024  # headers come in blocks of 1024 bytes
    return (text.ljust(whole - 2) + "}\n").encode("ascii")


def _edf(counts: NDArray[np.int32], settings: SimulationSettings, index: int, exposure: Exposure) -> bytes:
    scene, distance_m = scene_of(settings, index, exposure), setup_of(settings, index).distance_m
    more = [
        ("epoch", f"{_epoch(settings, index):.6f}"),
        ("offset", "0"),
        ("count_time", f"{settings.exposure_s:g}"),
        ("point_no", str(index)),
        ("scan_no", "1"),
        ("counter_pos", f"{settings.exposure_s:g} {60000 * settings.exposure_s:g} {progress_of(settings, index):.6g}"),
        ("counter_mne", "sec mon progress"),
        ("motor_pos", f"{distance_m * 1000:g} {scene.beam[1]:g} {scene.beam[0]:g}"),
        ("motor_mne", "detdist beamx beamy"),
        ("suffix", ".edf"),
        ("prefix", f"{settings.scan}_"),
        ("run", "0"),
        ("title", "simulated"),
    ]
    return _edf_header(counts, more) + counts.astype("<i4", copy=False).tobytes()


def _epoch(settings: SimulationSettings, index: int) -> float:
    return (taken_at(settings, index) - datetime(1970, 1, 1)).total_seconds()


def _edf_als(counts: NDArray[np.int32], settings: SimulationSettings, index: int) -> bytes:
    more = [
        ("Date", f"{taken_at(settings, index):%a %b %d %H:%M:%S %Y}"),
        ("count_time", f"{settings.exposure_s:.9f}"),
        ("title", "# Pixel_size 172e-6 m x 172e-6 m\r"),
        ("run", "0"),
    ]
    # The control system of ALS 7.3.3 stores 0 in gaps and dead pixels.
    return _edf_header(counts, more) + np.maximum(counts, 0).astype("<i4", copy=False).tobytes()
