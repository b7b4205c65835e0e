"""Tell all that is known of a frame, or of a pixel of its results, from the store alone.

    python -m tasks.explain STORE FRAME [--pixel ROW COLUMN] [--json]

FRAME is a row of `counts`, a file, or a part of a file's name. The answer names the source file with its hash and
states, and for each result the stage, its settings and code version, the model, the inputs, and when it was written.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import PipelineError, SettingsError
from tasks.settings.stages import TileSettings
from tasks.store import FrameRecord, ScanStore

CHAIN = [
    *("counts", "valid", "normalized", "tiles", "predictions", "inpainted", "provenance", "uncertainty"),
    *("familiarity", "unfamiliar", "latent", "coordinates", "cluster"),
]
"""Results in the order of the stages."""


def explain(path: str | Path, frame: str | int, pixel: tuple[int, int] | None = None) -> dict[str, Any]:
    """What became of a frame, as plain values that JSON can hold.

    frame: a row of `counts`, a file's path, or a part of its name that only one frame has.
    pixel: row and column of the normalized frame. Raises `SettingsError` for frames and pixels that are not there.
    """
    store = ScanStore(Path(path))
    record = find_frame(store, str(frame))
    told: dict[str, Any] = {"store": str(store.path), "source": _source(store, record)}
    if record.frame is not None:
        told["results"] = list(_results(store, record.frame))
        if pixel is not None:
            told["pixel"] = _pixel(store, record.frame, pixel)
    elif pixel is not None:
        raise SettingsError(f"{record.file}[{record.index}] is {record.state}, so that it has no pixels in the store")
    return told


def find_frame(store: ScanStore, wanted: str) -> FrameRecord:
    """The one frame that is meant. Raises `SettingsError`, naming candidates, for none and for several."""
    if wanted.isdecimal():
        rows = store.frames.ingested
        if int(wanted) < len(rows):
            return rows[int(wanted)]
        raise SettingsError(f"there is no row {wanted} in {store.path}; it holds rows 0 to {len(rows) - 1}")
    name, _, index = wanted.rpartition("[") if wanted.endswith("]") else (wanted, "", "")
    records = store.frames.all()
    exact = [record for record in records if record.file == str(Path(name).absolute())]
    found = exact or [record for record in records if name in Path(record.file).name]
    if index:
        found = [record for record in found if f"{record.index}]" == index]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{Path(record.file).name}[{record.index}]" for record in (found or records)[:5])
    which = f"{len(found)} frames match" if found else "no frame matches"
    raise SettingsError(f"{which} {wanted!r} in {store.path}; give a row, or one of: {names}, …")


def _source(store: ScanStore, record: FrameRecord) -> dict[str, Any]:
    facts = {
        "file": record.file,
        "index_in_file": record.index,
        "row": record.frame,
        "state": record.state.value,
        "reason": record.reason or None,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256 or None,
        "crc32c_of_pixels": record.crc32c,
        "invalid_pixels": record.invalid_pixels,
        "header": record.header,
        "history": [
            {"state": past.state.value, "at": past.at or None}
            for past in store.frames.history(record.file, record.index)
        ],
    }
    return {key: value for key, value in facts.items() if value not in (None, {})}


def _results(store: ScanStore, row: int) -> Iterator[dict[str, Any]]:
    """One entry for each array that a stage computed; `counts` and `valid` come first."""
    made = {name: array for name, array in store.frame_arrays().items() if store.shards.of_array(name)}
    for name in sorted(made, key=_place_in_chain):
        array = made[name]
        attributes: dict[str, Any] = dict(array.attrs.asdict())
        origin = attributes.get("origin") or {"stage": "ingest", "settings": store.attributes["ingest"]}
        shard = row // array.shards[0] if array.shards else 0
        commit = store.shards.get(name, shard)
        done = commit is not None and bool(commit.sha256) and commit.stop > row
        entry = {
            "array": name,
            "stage": origin["stage"],
            "code_version": origin.get("version"),
            "settings": origin.get("settings"),
            "model": _model(store, origin.get("model")),
            "computed_from": _names_of(store, origin.get("inputs", [])),
            "lineage": attributes.get("lineage"),
            "shard": shard,
            "done": done,
            "written_at": (commit.at or None) if commit and done else None,
            "shard_sha256": commit.sha256 if commit and done else None,
        }
        yield {key: value for key, value in entry.items() if value not in (None, [])}


def _place_in_chain(name: str) -> tuple[int, int, str]:
    """First results before those of other settings, and each in the order of the stages."""
    last = name.split("/")[-1]
    return name.count("/"), CHAIN.index(last) if last in CHAIN else len(CHAIN), last


def _model(store: ScanStore, digest: str | None) -> dict[str, Any] | None:
    """What the store knows of the model with this digest; models that were given lie elsewhere."""
    if digest is None:
        return None
    from dlsia_core.networks import load_network, model_digest  # torch is loaded where a model is asked for

    for folder in sorted((store.path / "models").glob("*/")):
        if (folder / "model.json").exists() and model_digest(folder) == digest:
            network, description = load_network(folder)
            trained_on = description.get("trained_on")
            return {"digest": digest, "folder": str(folder), "kind": type(network).__name__, "trained_on": trained_on}
    return {"digest": digest, "folder": "not in this store: it was given to the run"}


def _names_of(store: ScanStore, lineages: list[str]) -> list[str]:
    """The arrays with these lineages, several of one stage together; those of ingest have none in their attributes."""
    arrays = sorted(store.frame_arrays().items(), key=lambda item: _place_in_chain(item[0]))
    known = {array.attrs.get("lineage") for _, array in arrays}
    named = [name for name, array in arrays if array.attrs.get("lineage") in lineages]
    return (["counts", "valid"] if set(lineages) - known else []) + named


def _pixel(store: ScanStore, row: int, pixel: tuple[int, int]) -> dict[str, Any]:
    """Values at a pixel of the normalized frame, the detector pixels behind it and the tiles that hold it."""
    if "normalized" not in store:
        raise SettingsError(f"{store.path} holds no normalized frames, so that there are no pixels to explain")
    shape = store.array("normalized").shape[1:]
    if not all(0 <= place < size for place, size in zip(pixel, shape, strict=True)):
        raise SettingsError(f"pixel {pixel} is outside the normalized frames of {shape[0]} x {shape[1]}")
    values = {}
    for name in ("normalized", "inpainted", "provenance", "uncertainty"):
        if name in store:
            value = np.asarray(store.array(name)[row, *pixel]).item()
            values[name] = None if value != value else value
    detector = store.attributes["frame_shape"]
    behind = [
        [int(place * whole // size), int(-(-(place + 1) * whole // size)) - 1]
        for place, whole, size in zip(pixel, detector, shape, strict=True)
    ]
    return {
        "row_column": list(pixel),
        "values": values,
        "detector_pixels": {"y": behind[0], "x": behind[1]},
        "tiles": _tiles_with(store, pixel, (int(shape[0]), int(shape[1]))),
    }


def _tiles_with(store: ScanStore, pixel: tuple[int, int], shape: tuple[int, int]) -> list[int]:
    if "tiles" not in store:
        return []
    settings = store.array("tiles").attrs["origin"]["settings"]  # type: ignore[index, call-overload]
    grid = TileSettings.model_validate(settings).grid(shape)
    row, column = pixel
    return [
        tile
        for tile, (rows, columns) in enumerate(grid.slices)
        if rows.start <= row < rows.stop and columns.start <= column < columns.stop
    ]


def as_text(told: Any, indent: int = 0) -> str:
    """Plain values as indented lines.

    >>> print(as_text({"row": 3, "results": [{"array": "counts", "done": True}]}))
    row: 3
    results:
      - array: counts
        done: True
    """
    lines, pad = [], " " * indent
    for key, value in told.items():
        if isinstance(value, dict) and value:
            lines += [f"{pad}{key}:", as_text(value, indent + 2)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{pad}{key}:")
            for item in value:
                body = as_text(item, indent + 4)
                lines.append(f"{pad}  - {body.lstrip()}")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{pad}{key}: {shown}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print what is known of a frame; return 0, or 1 if the frame or the store is not there."""
    parser = argparse.ArgumentParser(prog="python -m tasks.explain", description=__doc__)
    parser.add_argument("store", help="a scan store, as written by process_scan or ingest_scan")
    parser.add_argument("frame", help="row of counts, file, or part of a file's name; NAME[3] for a frame in a stack")
    parser.add_argument("--pixel", type=int, nargs=2, metavar=("ROW", "COLUMN"), help="of the normalized frame")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    try:
        told = explain(options.store, options.frame, tuple(options.pixel) if options.pixel else None)
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write((json.dumps(told, indent=2) if options.json else as_text(told)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
