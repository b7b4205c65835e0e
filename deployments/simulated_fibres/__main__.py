"""Command line of the simulated fibres: `python -m deployments.simulated_fibres --help`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from dlsia_core.errors import SettingError

from .settings import FibreSettings
from .writers import BACKGROUND, FIBRE, write_volume


def build_parser() -> argparse.ArgumentParser:
    """An option for each field of `FibreSettings`, with its description and default."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.simulated_fibres",
        description="Write a simulated tomogram of fibre-reinforced concrete, and the truth about it.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Where volume/, labels/ and truth/ go.")
    for field, info in FibreSettings.model_fields.items():
        many = isinstance(info.default, tuple)
        first = info.default[0] if many else info.default
        shown = " ".join(map(str, info.default)) if many else info.default
        parser.add_argument(
            f"--{field.replace('_', '-')}",
            default=info.default,
            type=type(first),
            nargs=len(info.default) if many else None,
            help=f"{info.description} Default: {shown}",
        )
    parser.add_argument("--slab", type=int, default=32, help="Slices made at once; more take more memory. Default: 32.")
    parser.add_argument("--progress", action="store_true", help="Say after each slab how far it is.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the volume that the command line asks for; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    start = time.monotonic()

    def say(done: int) -> None:
        print(f"{done} slices after {time.monotonic() - start:.0f} s", flush=True)

    try:
        settings = FibreSettings(**{field: getattr(options, field) for field in FibreSettings.model_fields})
        written = write_volume(options.folder, settings, options.slab, say if options.progress else None)
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    except (SettingError, FileExistsError) as error:
        parser.error(str(error))
    print(
        f"{settings.shape[0]} slices in {written.volume}, in {time.monotonic() - start:.1f} s; truth: {written.table}"
    )
    if written.labels is not None:
        counts = written.n_labelled
        print(f"sparse labels in {written.labels}: {counts[FIBRE]} voxels of fibre, {counts[BACKGROUND]} of background")
    return 0


if __name__ == "__main__":
    sys.exit(main())
