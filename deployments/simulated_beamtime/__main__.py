"""Command line of the simulated beamtime: `python -m deployments.simulated_beamtime --help`."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dlsia_core.errors import SettingError

from .settings import DETECTORS, FILE_FORMATS, SAMPLES, VARIETIES, SimulationSettings
from .writers import damaged_frames, second_folder_of, write_scan

# option -> field of SimulationSettings whose description and default it takes
_OPTIONS = {
    "--scan": "scan",
    "--frames": "n_frames",
    "--start-index": "start_index",
    "--samples": "samples",
    "--frames-per-sample": "frames_per_sample",
    "--variety": "variety",
    "--second-exposure-shift": "second_exposure_shift_px",
    "--detector": "detector",
    "--format": "file_format",
    "--seed": "seed",
    "--detector-seed": "detector_seed",
    "--exposure": "exposure_s",
    "--brightness": "brightness",
    "--calibrant": "calibrant",
    "--distance": "distance_m",
    "--wavelength": "wavelength_m",
    "--dead-fraction": "dead_fraction",
    "--hot-pixels": "hot_pixels",
    "--flat-field-spread": "flat_field_spread",
    "--corrupt": "damaged_files",
}
_CHOICES = {"samples": SAMPLES, "detector": DETECTORS, "file_format": FILE_FORMATS, "variety": VARIETIES}


def build_parser() -> argparse.ArgumentParser:
    """The options, with help texts and defaults from `SimulationSettings`."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.simulated_beamtime", description="Write a simulated scan of detector files."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Where the detector files go.")
    for option, field in _OPTIONS.items():
        info = SimulationSettings.model_fields[field]
        default = info.default
        parser.add_argument(
            option,
            dest=field,
            default=default,
            type=type(default) if isinstance(default, int | float) else str,
            choices=_CHOICES.get(field),
            nargs="+" if isinstance(default, tuple) else None,
            help=f"{info.description} Default: {' '.join(default) if isinstance(default, tuple) else default}",
        )
    parser.add_argument("--rate", type=float, default=None, help="Frames per second. Default: as fast as possible.")
    parser.add_argument("--pieces", type=int, default=1, help="Parts in which a file grows; 1 (default): whole files.")
    parser.add_argument("--truth", type=Path, default=None, help="Folder for the truth; none is written without it.")
    parser.add_argument("--workers", type=int, default=1, help="Frames simulated at once. Default: 1.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scan that the command line asks for; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")  # to standard error
    logging.getLogger("silx").setLevel(logging.ERROR)  # it warns about OpenCL, which nothing here uses
    parser = build_parser()
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        settings = SimulationSettings(**{field: getattr(options, field) for field in _OPTIONS.values()})
        paths = write_scan(options.folder, settings, options.rate, options.pieces, options.truth, options.workers)
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    except (SettingError, FileExistsError) as error:
        parser.error(str(error))
    seconds = time.monotonic() - start
    print(f"{len(paths)} frames in {options.folder}, {paths[0].name} to {paths[-1].name}, in {seconds:.1f} s")
    if settings.second_exposure_shift_px:
        print(f"second exposures in {second_folder_of(options.folder.absolute())}")
    for index, kind in damaged_frames(settings).items():
        print(f"damaged: {settings.file_stem(index)} ({kind})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
