"""Comparisons: figures that an independent computation gives, too, on frames of which nothing is silently dropped."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fabio.cbfimage
import numpy as np
import pytest
from prefect.exceptions import ParameterTypeError
from skimage.restoration import inpaint_biharmonic

from dlsia_core.exposures import align
from dlsia_core.inpainting import InpaintingRecipe, predict
from dlsia_core.intensity import LogScale
from dlsia_core.networks import load_network, save_network
from dlsia_core.resize import AreaResizer
from flows.compare_inpainting import compare_inpainting
from tasks.compare_beam import beam_of
from tasks.compare_cases import CaseReader
from tasks.compare_pairs import pair_frames
from tasks.compare_plan import compared_models, planned_comparison, trained_rows
from tasks.errors import SettingsError, SourceError
from tasks.normalized_frames import NormalizedFrames, frames_of_store
from tasks.settings.comparison import CompareSettings
from tasks.store import FrameRecord, FrameState

SHAPE, SHIFT = (128, 160), 9
COLUMNS = [
    "method", "gaps", "n_frames", "n_pixels", "l1", "l1_low", "l1_high", "pearson_r", "l1_over_biharmonic",
    "l1_over_linear", "noise_floor",
]  # fmt: skip
HALVED = {"normalize": {"shape": [64, 80]}}


def scattering(number: int, rows: int) -> np.ndarray:
    """Mean counts (y, x) of rings, moved down by some rows."""
    y, x = np.indices(SHAPE)
    radius = np.hypot(y - 60 - rows, x - 30)
    return 80 * (1.2 + np.cos(radius / (5 + number % 3))) * np.exp(-radius / 90) + 5


def exposure(number: int, rows: int = 0, seed: int = 0) -> np.ndarray:
    """Counts with a horizontal gap of 4 rows and a vertical one of 4 columns."""
    counts = np.random.default_rng([number, rows, seed]).poisson(scattering(number, rows)).astype("int32")
    counts[40:44] = counts[:, 76:80] = -1
    return counts


def write(folder: Path, counts: dict[int, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, values in counts.items():
        fabio.cbfimage.CbfImage(data=values).write(str(folder / f"scan_{number:04d}.cbf"))
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("pairs")
    return SimpleNamespace(
        first=write(folder / "first", {n: exposure(n) for n in range(5)}),
        second=write(folder / "second", {n: exposure(n, SHIFT) for n in range(5)}),
    )


@pytest.fixture
def compare(flow_runs, tmp_path):
    def run(source: Path, output: Path = tmp_path / "out", **arguments: Any) -> SimpleNamespace:
        ended = flow_runs("compare_inpainting", source=source, output=output, **arguments)
        assert "result" in ended, ended
        with (output / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        by_method = {(row["method"], row["gaps"]): row for row in rows}
        return SimpleNamespace(**ended["result"], rows=rows, by_method=by_method, folder=output)

    return run


def lines_of(folder: Path) -> list[str]:
    return (folder / "journal" / "scores.jsonl").read_text().splitlines()


# An independent computation: means over 2 x 2 pixels and logarithms by hand, biharmonic by scikit-image


def normalized(counts: np.ndarray, valid: np.ndarray) -> np.ndarray:
    blocks = np.where(valid, counts, 0).reshape(64, 2, 80, 2).sum(axis=(1, 3))
    n_valid = valid.reshape(64, 2, 80, 2).sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n_valid >= 2, np.log1p(blocks / n_valid) / np.log1p(2.0**20), np.nan)


def merged(number: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = exposure(number), exposure(number, SHIFT)
    moved = np.full(SHAPE, -1)
    moved[: SHAPE[0] - SHIFT] = second[SHIFT:]
    counts = np.where(first >= 0, first, moved)
    return counts, counts >= 0


def biharmonic(shown: np.ndarray) -> np.ndarray:
    return inpaint_biharmonic(np.nan_to_num(shown), np.isnan(shown))


def interpolated_down(shown: np.ndarray, rows: slice) -> np.ndarray:
    """Linear interpolation along columns of pixels across a gap."""
    filled = shown.copy()
    above, below = shown[rows.start - 1], shown[rows.stop]
    n = rows.stop - rows.start + 1
    for step, row in enumerate(range(rows.start, rows.stop), start=1):
        filled[row] = (above * (n - step) + below * step) / n
    return filled


@pytest.mark.server
def test_figures_of_horizontal_gaps_are_those_of_an_independent_computation(compare, pairs):
    found = compare(pairs.first, second_exposure=pairs.second, **HALVED)
    errors: dict[str, list[np.ndarray]] = {"biharmonic": [], "linear": []}
    values: dict[str, list[np.ndarray]] = {"biharmonic": [], "linear": [], "truth": []}
    for number in range(5):
        shown = normalized(exposure(number), exposure(number) >= 0)
        truth = normalized(*merged(number))
        judged = np.isnan(shown) & np.isfinite(truth)
        judged[:20] = judged[22:] = False
        fills = {"biharmonic": biharmonic(shown), "linear": interpolated_down(shown, slice(20, 22))}
        for name, filled in fills.items():
            errors[name].append(np.abs(filled - truth)[judged])
            values[name].append(filled[judged])
        values["truth"].append(truth[judged])
    for name, parts in errors.items():
        row = found.by_method[name, "horizontal"]
        expected = np.concatenate(parts)
        assert (int(row["n_frames"]), int(row["n_pixels"])) == (5, expected.size)
        # Linear interpolation also looks along the gap, but from so far away that it hardly counts.
        assert float(row["l1"]) == pytest.approx(expected.mean(), rel=1e-5 if name == "biharmonic" else 0.05)
        r = np.corrcoef(np.concatenate(values[name]), np.concatenate(values["truth"]))[0, 1]
        assert float(row["pearson_r"]) == pytest.approx(r, abs=1e-6 if name == "biharmonic" else 0.01)
        assert float(row["l1_low"]) < float(row["l1"]) < float(row["l1_high"])
    ratio = float(found.by_method["linear", "horizontal"]["l1"]) / float(
        found.by_method["biharmonic", "horizontal"]["l1"]
    )
    assert float(found.by_method["linear", "horizontal"]["l1_over_biharmonic"]) == pytest.approx(ratio, rel=1e-12)


@pytest.mark.server
def test_the_table_has_just_these_columns_and_both_directions(compare, pairs):
    found = compare(pairs.first, second_exposure=pairs.second, **HALVED)
    header = (found.folder / "results.csv").read_text().splitlines()[0]
    assert header.split(",") == COLUMNS
    methods = ("biharmonic", "linear", "harmonic")  # the frames' headers name no beam center
    assert set(found.by_method) == {(m, gaps) for m in methods for gaps in ("horizontal", "vertical")}
    assert any("azimuthal and azimuthal_harmonic are left out" in warning for warning in found.warnings)
    for row in found.rows:
        assert 0 < float(row["noise_floor"]) < float(row["l1"])
    assert found.refused_pairs == []


@pytest.mark.server
def test_noise_alone_makes_what_simulated_exposures_show(compare, pairs):
    """The mean counts are known here: what an exposure differs from them is noise and nothing else."""
    found = compare(pairs.first, second_exposure=pairs.second, **HALVED)
    everywhere = np.ones(SHAPE, bool)
    differences = []
    for number in range(5):
        perfect = normalized(scattering(number, 0), everywhere)
        truth = normalized(*merged(number))
        differences.append(np.abs(truth - perfect)[20:22][np.isfinite(truth[20:22])])
    noise = np.concatenate(differences).mean()
    assert float(found.by_method["linear", "horizontal"]["noise_floor"]) == pytest.approx(noise, rel=0.1)


def resized(counts: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return LogScale().normalize(AreaResizer(SHAPE, (64, 64)).resize(counts, valid)[0])


@pytest.mark.server
def test_a_model_is_scored_as_its_tiles_are_predicted_and_added_without_repeating_the_others(compare, pairs, trained):
    arguments = {"second_exposure": pairs.second, "normalize": {"shape": [64, 64]}}
    before = compare(pairs.first, **arguments)
    lines = lines_of(before.folder)
    found = compare(pairs.first, models=[str(trained)], **arguments)
    added = lines_of(found.folder)[len(lines) :]
    assert lines_of(found.folder)[: len(lines)] == lines
    assert [json.loads(line)["method"] for line in added] == [str(trained)] * 10
    network, description = load_network(trained)
    recipe = InpaintingRecipe(**description["recipe"])
    total = n_pixels = 0.0
    for number in range(5):
        counts = exposure(number)
        shown, truth = resized(counts, counts >= 0), resized(*merged(number))
        sums, weights = np.zeros((2, 64, 64))
        for start in (0, 16, 32):
            sums[:, start : start + 32] += predict(network, shown[None, :, start : start + 32], recipe)[0]
            weights[:, start : start + 32] += 1
        judged = np.isnan(shown) & np.isfinite(truth) & (np.arange(64) // 2 == 10)[:, None]
        total += np.abs(sums / weights - truth)[judged].sum()
        n_pixels += judged.sum()
    assert float(found.by_method[str(trained), "horizontal"]["l1"]) == pytest.approx(total / n_pixels, rel=1e-5)
    assert found.by_method["linear", "vertical"] == before.by_method["linear", "vertical"]


@pytest.mark.server
def test_bad_pairs_are_refused_one_by_one_and_listed(compare, pairs, tmp_path):
    second = {number: exposure(number, SHIFT) for number in range(5)}
    second[1] = exposure(1)  # not moved
    second[3] = exposure(4, SHIFT, seed=9)  # another sample
    del second[4]
    found = compare(pairs.first, second_exposure=write(tmp_path / "second", second), **HALVED)
    assert int(found.by_method["linear", "horizontal"]["n_frames"]) == 2
    assert int(found.by_method["linear", "vertical"]["n_frames"]) == 5
    assert [text.split(":")[0] for text in found.refused_pairs] == [
        "scan_0001.cbf and scan_0001.cbf",
        "scan_0003.cbf and scan_0003.cbf",
    ]
    assert "the detector was not moved" in found.refused_pairs[0]
    assert "1 of 5 frames have no second exposure, by name: scan_0004.cbf." in found.warnings
    with (found.folder / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["shift_rows"], row["shift_columns"]) for row in rows if not row["refused"]] == [(str(SHIFT), "0")] * 2
    page = (found.folder / "report.html").read_text()
    assert "2 of 4 pairs of exposures were refused" in page
    assert "+9 rows, +0 columns: 2 pairs" in page


@pytest.mark.server
def test_unequal_exposures_are_scaled_and_the_report_says_so(compare, pairs, tmp_path):
    second = {n: np.where(exposure(n, SHIFT) < 0, -1, 2 * exposure(n, SHIFT)) for n in range(2)}
    first = write(tmp_path / "first", {n: exposure(n) for n in range(2)})
    folder = write(tmp_path / "second", second)
    found = compare(first, second_exposure=folder, compare={"shift_px": [SHIFT, 0]}, **HALVED)
    with (found.folder / "pairs.csv").open() as file:
        factors = [float(row["factor"]) for row in csv.DictReader(file)]
    assert factors == pytest.approx([0.5, 0.5], rel=0.02)
    kept = compare(first, tmp_path / "kept", second_exposure=folder, compare={"flux": "keep"}, **HALVED)
    assert [text.partition(":")[2].split(",")[0] for text in kept.refused_pairs] != []
    assert {gaps for _, gaps in kept.by_method} == {"vertical"}


@pytest.mark.server
def test_without_second_exposures_vertical_gaps_alone_are_judged(compare, pairs):
    found = compare(pairs.first, compare={"methods": ["linear"], "noise_floor": False, "max_frames": 3}, **HALVED)
    [row] = found.rows
    assert (row["method"], row["gaps"], row["n_frames"]) == ("linear", "vertical", "3")
    assert row["noise_floor"] == row["l1_over_biharmonic"] == ""
    assert any("horizontal gaps have no truth" in warning for warning in found.warnings)
    assert "3 of 5 frames are judged (max_frames), evenly over them." in found.warnings


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.server
def test_a_killed_comparison_goes_on_where_it_was(compare, flow_runs, pairs, trained, tmp_path):
    arguments = {
        "models": [str(trained)], "second_exposure": str(pairs.second), "normalize": {"shape": [64, 64]},
        "compare": {"batch_frames": 1}, "workers": {"threads": 1},
    }  # fmt: skip
    undisturbed = compare(pairs.first, tmp_path / "undisturbed", **arguments)
    output = tmp_path / "killed"
    process = flow_runs.start("compare_inpainting", source=pairs.first, output=output, **arguments)
    journal = output / "journal" / "scores.jsonl"
    while lives(process) and not (journal.exists() and len(journal.read_text().splitlines()) > 12):
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    assert flow_runs.ended()["status"] == -signal.SIGKILL
    assert not (output / "results.csv").exists()
    before = [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    found = compare(pairs.first, output, **arguments)
    after = journal.read_text().splitlines(keepends=True)
    assert after[: len(before)] == before
    assert sorted(after) == sorted(
        (undisturbed.folder / "journal" / "scores.jsonl").read_text().splitlines(keepends=True)
    )
    for name in ("results.csv", "intervals.csv", "frames.csv", "pairs.csv"):
        assert (found.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()


def test_a_frame_has_the_same_gaps_whatever_frames_are_beside_it(tmp_path, run_stages, small, pairs):
    keys = []
    for name, numbers in (("all", range(5)), ("some", (1, 3))):
        source = write(tmp_path / name, {n: exposure(n) for n in numbers})
        plan = planned(run_stages(source, tmp_path / f"{name}.zarr", small(), until="tile").scan, tmp_path)
        reader = CaseReader(plan)
        keys.append({reader.case(row, "vertical").record.frame: reader.key(row, "vertical") for row in plan.rows})
    assert keys[1].items() <= keys[0].items()


# What cannot work


def planned(scan, folder: Path, models=(), **settings: Any):
    frames = frames_of_store(scan, None)
    asked = CompareSettings(**settings)
    found = compared_models(models, frames.facts["scale"], frames.shape, asked)
    return planned_comparison(folder, "source", frames, None, found, asked)[0]


def refusal(kind: type[Exception], **arguments: Any) -> str:
    """Call the flow as a deployment does; return its message."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    with pytest.raises(kind) as caught:
        compare_inpainting.fn(**compare_inpainting.validate_parameters(given))
    return str(caught.value)


def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, pairs, trained):
    arguments = {"source": pairs.first, "output": tmp_path / "out"}
    unknown = refusal(ParameterTypeError, **arguments, compare={"methods": ["spline"]})
    assert "unknown classical methods ['spline']; known: biharmonic, linear, harmonic" in unknown
    assert "no model is registered under 'nobody'" in refusal(SettingsError, **arguments, models=["nobody"])
    assert "no usable model in" in refusal(SettingsError, **arguments, models=[str(tmp_path / "none")])
    twice = refusal(SettingsError, **arguments, models=[str(trained)] * 2, normalize={"shape": [64, 64]})
    assert "name each model once" in twice
    scale = refusal(SettingsError, **arguments, models=[str(trained)], normalize={"unit_counts": 2.0})
    assert "was trained with scale" in scale
    tiles = refusal(SettingsError, **arguments, models=[str(trained)], normalize={"shape": [32, 32]})
    assert "do not fit the normalized frames of (32, 32)" in tiles
    assert "tile of 64 px is larger than the frame of 32 px" in tiles
    assert "nothing to compare" in refusal(SettingsError, **arguments, compare={"methods": []})
    (tmp_path / "empty").mkdir()
    assert "no detector files in" in refusal(SourceError, source=tmp_path / "empty", output=tmp_path / "out")
    small = write(tmp_path / "small", {0: exposure(0)[:100]})
    shape = refusal(SettingsError, **arguments, second_exposure=small)
    assert "the frames of second_exposure are 100 x 160 px and those of the source 128 x 160" in shape
    assert not (tmp_path / "out").exists()


def test_a_detector_without_gaps_is_refused(tmp_path, write_scan, run_stages, small):
    write_scan(tmp_path / "raw", range(2), gaps=False)
    scan = run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), until="tile").scan
    with pytest.raises(SettingsError, match=r"nothing can be judged on .* no vertical gaps to imitate"):
        planned(scan, tmp_path)


def test_frames_that_a_model_learned_from_are_not_judged(tmp_path, write_scan, run_stages, small, trained):
    write_scan(tmp_path / "raw", range(6))
    scan = run_stages(tmp_path / "raw", tmp_path / "scan.zarr", small(), until="tile").scan
    frames = frames_of_store(scan, None)
    network, description = load_network(trained)
    split = {"n_frames": 4, "test": [1, 2], "holds_out": True}
    lineage = NormalizedFrames(frames.normalized, 4).lineage
    save_network(tmp_path / "model", network, {**description, "split": split, "origin": {"frames": lineage}})
    assert planned(scan, tmp_path, [str(tmp_path / "model")]).rows == (1, 2, 4, 5)
    other = {**description, "split": split, "origin": {"frames": "others"}, "trained_on": {"source": "source"}}
    save_network(tmp_path / "other", network, other)
    plan = planned(scan, tmp_path, [str(tmp_path / "other")])
    assert len(plan.rows) == 6
    assert "its figures may flatter it" in trained_rows(plan.models[0], frames, "source")[1]
    none = {**split, "n_frames": 6, "holds_out": False}
    save_network(tmp_path / "all", network, {**description, "split": none, "origin": {"frames": frames.lineage}})
    with pytest.raises(SettingsError, match="no frame is left to judge on"):
        planned(scan, tmp_path, [str(tmp_path / "all")])


# Which frame belongs to which


def record(name: str, number: int = -1) -> FrameRecord:
    return FrameRecord(f"/raw/{name}", 0, FrameState.INGESTED, 1, 1, header={"facts": {"frame_number": number}})


def test_pairs_are_found_by_name_then_by_number_then_in_order():
    named = pair_frames([record("a_1.cbf", 1), record("b_1.cbf", 1)], [record("b_1.cbf.gz", 1), record("c_1.cbf", 1)])
    assert (named.rule, named.second_of) == ("name", {1: 0})
    numbered = pair_frames([record("hi_9.edf", 9), record("hi_10.edf", 10)], [record("lo_10.edf", 10)])
    assert (numbered.rule, numbered.second_of) == ("number", {1: 0})
    ordered = pair_frames([record("first.edf"), record("next.edf")], [record("x.edf"), record("y.edf")])
    assert (ordered.rule, ordered.second_of) == ("order", {0: 0, 1: 1})
    with pytest.raises(SettingsError, match="the source has 2 frames and second_exposure 1"):
        pair_frames([record("first.edf"), record("next.edf")], [record("x.edf")])


def test_the_beam_center_is_where_the_header_or_the_setting_says():
    told = FrameRecord(
        "a.cbf", 0, FrameState.INGESTED, 1, 1, header={"header": {"Beam_xy": "(762.50, 1175.25) pixels"}}
    )
    unset = FrameRecord("a.cbf", 0, FrameState.INGESTED, 1, 1, header={"header": {"Beam_xy": "(0.00, 0.00) pixels"}})
    assert beam_of(told, "header") == (1175.25, 762.5)
    assert beam_of(unset, "header") is None
    assert beam_of(told, (3.0, 4.0)) == (3.0, 4.0)
    assert beam_of(told, None) is None


# Recorded frames


@pytest.mark.server
def test_the_two_exposures_of_silver_behenate(compare, real_frames, tmp_path):
    folder = real_frames / "edf" / "als733"
    for name in ("AgB_10s_hi_1m.edf", "AgB_10s_lo_1m.edf"):
        if not (folder / name).exists():
            pytest.skip(f"no {name} among the real frames")
    found = compare(folder / "AgB_10s_hi_1m.edf", second_exposure=folder / "AgB_10s_lo_1m.edf")
    l1 = {method: float(row["l1"]) for (method, gaps), row in found.by_method.items() if gaps == "horizontal"}
    assert l1["linear"] == pytest.approx(10.8e-3, rel=0.15)
    assert l1["biharmonic"] == pytest.approx(18.2e-3, rel=0.15)


@pytest.mark.server
def test_a_recorded_frame_split_in_two_exposures(compare, real_frames, tmp_path):
    """Each count goes to one of two exposures by chance; both are looked at through gaps that were not recorded."""
    with fabio.open(str(real_frames / "edf" / "als733" / "AgB_10s_hi_1m.edf")) as file:
        counts = file.data
    valid = counts.any(axis=1)[:, None] & counts.any(axis=0)
    one = np.random.default_rng(0).binomial(counts, 0.5).astype(np.int32)
    two, known = align(counts - one, valid, (-30, 0))
    gaps = np.ones(counts.shape, bool)
    for start in (120, 332, 544, 756):
        gaps[start : start + 17] = False
    exposures = {"first": (one, valid), "second": (two, known)}
    for name, (values, measured) in exposures.items():
        write(tmp_path / name, {0: np.where(measured & gaps, values, -1).astype(np.int32)})
    found = compare(tmp_path / "first", second_exposure=tmp_path / "second")
    l1 = {method: float(row["l1"]) for (method, gaps), row in found.by_method.items() if gaps == "horizontal"}
    floor = float(found.by_method["linear", "horizontal"]["noise_floor"])
    assert floor < min(l1.values())
    assert max(l1.values()) < 2.2 * floor
    with (found.folder / "pairs.csv").open() as file:
        [row] = csv.DictReader(file)
    assert (row["shift_rows"], row["shift_columns"]) == ("30", "0")
    assert float(row["exposures_l1"]) / floor == pytest.approx(2**0.5, rel=0.15)
