"""A simulated volume is the same however it is made, and its truth is what was drawn."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.simulated_fibres import (
    BACKGROUND,
    FIBRE,
    UNLABELLED,
    FibreSettings,
    build_scene,
    image_slab,
    write_volume,
)
from deployments.simulated_fibres.__main__ import main
from deployments.simulated_fibres.arcs import make_fibre, place_fibres, watson_directions
from dlsia_core.errors import SettingError

SMALL = FibreSettings(
    shape=(48, 56, 64), fibres=8, length=30.0, radius=2.0, label_fibres=2, aggregate_radius=6.0, seed=3
)


def changed(**changes: object) -> FibreSettings:
    return FibreSettings(**{**SMALL.model_dump(), **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stack(folder: Path) -> NDArray[np.generic]:
    return np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_any_slab_thickness_writes_the_same_files(tmp_path: Path) -> None:
    for slab in (1, 7, 48):
        write_volume(tmp_path / str(slab), SMALL, slab)
    assert contents(tmp_path / "1") == contents(tmp_path / "7") == contents(tmp_path / "48")
    assert len(contents(tmp_path / "7")) == 3 * 48 + 2


def test_another_seed_is_another_volume() -> None:
    one, other = (image_slab(build_scene(changed(seed=seed)), 20, 21) for seed in (1, 2))
    assert (one.volume != other.volume).mean() > 0.9
    assert not np.array_equal(one.ids, other.ids)


def test_the_table_tells_what_was_drawn(tmp_path: Path) -> None:
    written = write_volume(tmp_path, SMALL)
    ids, table = stack(written.instances), rows(written.table)
    assert [int(row["id"]) for row in table] == list(range(1, 9))
    for row in table:
        voxels = np.argwhere(ids == int(row["id"]))
        assert len(voxels) == int(row["volume_px"])
        np.testing.assert_allclose(voxels.mean(axis=0), [float(row[f"{axis}_px"]) for axis in "zyx"], atol=6e-4)
        direction = np.array([float(row[f"direction_{axis}"]) for axis in "zyx"])
        assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
        # The flat ends of a tilted or bent fibre stand out by less than its diameter.
        extent = np.ptp(voxels @ direction)
        assert extent == pytest.approx(float(row["length_end_to_end_px"]), abs=3.5)
        assert float(row["length_end_to_end_um"]) == pytest.approx(4 * float(row["length_end_to_end_px"]), abs=3e-3)


def test_whole_fibres_have_the_volume_of_cylinders(tmp_path: Path) -> None:
    written = write_volume(tmp_path, changed(shape=(96, 96, 96), fibres=12, radius=4.0, length=50.0))
    whole = [row for row in rows(written.table) if row["wholly_inside"] == "1"]
    assert len(whole) >= 3
    for row in whole:
        assert int(row["volume_px"]) == pytest.approx(np.pi * 16 * float(row["length_along_px"]), rel=0.02)


def test_sparse_labels_are_true_and_in_the_ratio_of_the_paper(tmp_path: Path) -> None:
    settings = changed(shape=(128, 128, 128), fibres=14, radius=3.0, length=50.0, label_fibres=4)
    written = write_volume(tmp_path, settings)
    assert written.labels is not None
    labels, ids = stack(written.labels), stack(written.instances)
    labelled = [int(row["id"]) for row in rows(written.table) if row["labelled"] == "1"]
    assert len(labelled) == 4
    assert set(np.unique(labels)) == {BACKGROUND, FIBRE, UNLABELLED}
    np.testing.assert_array_equal(labels == FIBRE, np.isin(ids, labelled))
    assert not ids[labels == BACKGROUND].any()
    assert written.n_labelled == {value: int((labels == value).sum()) for value in (BACKGROUND, FIBRE)}
    assert written.n_labelled[BACKGROUND] / written.n_labelled[FIBRE] == pytest.approx(10 / 2, rel=0.12)


def test_no_labels_are_written_unasked(tmp_path: Path) -> None:
    assert write_volume(tmp_path, changed(label_fibres=0)).labels is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["truth", "volume"]


def test_gray_values_are_those_of_the_settings() -> None:
    clean = changed(noise=0, rings=0, blur=0, texture=0, cupping=0, aggregate_fraction=0, pore_fraction=0)
    slab = image_slab(build_scene(clean), 0, 48)
    assert np.median(slab.volume[slab.ids > 0]) == pytest.approx(5000 + 50_000 * 0.30)
    assert np.median(slab.volume[slab.ids == 0]) == pytest.approx(5000 + 50_000 * 0.55)
    # A surface goes through voxels: half of what is drawn on them counts as fibre.
    assert slab.volume[slab.ids > 0].max() <= 5000 + 50_000 * 0.55 - 0.5 * 50_000 * 0.25 + 1


def test_noise_is_as_strong_as_asked() -> None:
    empty = changed(fibres=0, label_fibres=0, aggregate_fraction=0, pore_fraction=0, rings=0, cupping=0)
    values = image_slab(build_scene(empty), 0, 8).volume.astype(float) / 50_000
    sharp = image_slab(build_scene(empty.model_copy(update={"texture": 0.0, "blur": 0.0})), 0, 8).volume / 50_000
    assert sharp.std() == pytest.approx(empty.noise, rel=0.02)
    assert values.std() > sharp.std()


@given(bend=st.floats(0, 2.5), length=st.floats(10, 200), seed=st.integers(0, 2**31))
def test_an_arc_has_its_length_and_its_chord(bend: float, length: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    middle, along, outward = rng.normal(size=(3, 3)) * 50
    fibre = make_fibre(middle, along, outward, bend, length, 2.0)
    line = fibre.line(0.05)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(length, rel=1e-5)
    chord = 2 * length / fibre.bend * np.sin(fibre.bend / 2)
    assert np.linalg.norm(line[-1] - line[0]) == pytest.approx(chord, rel=1e-6)
    np.testing.assert_allclose(fibre.points(np.zeros(1))[0], middle, atol=1e-6)
    mantle, ends = fibre.distances(line)
    np.testing.assert_allclose(mantle, 2, atol=1e-5)
    np.testing.assert_allclose(ends[[0, -1]], 0, atol=1e-4)


def test_fibres_keep_their_distance() -> None:
    fibres = place_fibres(changed(fibres=12, gap=1.5, label_fibres=0))
    lines = [fibre.line(0.5) for fibre in fibres]
    least = min(
        np.linalg.norm(one[:, None] - other[None], axis=2).min()
        for number, one in enumerate(lines)
        for other in lines[:number]
    )
    assert least > 2 * 2.0 + 1.5 - 0.1  # lines are compared at points a radius / 2 apart


@pytest.mark.parametrize(("concentration", "expected"), [(0.0, 1 / 3), (8.0, 0.869), (-8.0, 0.0625)])
def test_directions_follow_the_watson_distribution(concentration: float, expected: float) -> None:
    # E[cos^2] = 1/(2k) (e^k / integral_0^1 e^(k t^2) dt - 1); for k = 8: 0.8695, for k = -8: about 1/16
    mean = np.array([1.0, 2.0, 2.0]) / 3
    directions = watson_directions(mean, concentration, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert ((directions @ mean) ** 2).mean() == pytest.approx(expected, abs=0.01)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.02)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"fibres of length 30.0 and radius 6.0 fit into"):
        write_volume(tmp_path / "full", changed(radius=6.0, fibres=500))
    with pytest.raises(SettingError, match="wholly inside the volume, 8 are to be labelled"):
        write_volume(tmp_path / "labels", changed(label_fibres=8, seed=1))
    assert not list(tmp_path.iterdir())
    write_volume(tmp_path, SMALL)
    with pytest.raises(FileExistsError, match="volume, labels, truth already in"):
        write_volume(tmp_path, SMALL)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong, message in (
        ({"mean_direction": (0, 0, 0)}, "three numbers that are not all 0"),
        ({"radius": 20.0}, "at least three radii"),
        ({"label_fibres": 9}, "there are only 8 fibres"),
    ):
        with pytest.raises(ValueError, match=message):
            changed(**wrong)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shape", "24", "32", "40", "--fibres", "3", "--length", "16", "--radius", "2", "--seed", "1"]
    assert main([str(tmp_path / "a"), *arguments, "--slab", "5", "--progress"]) == 0
    assert "24 slices in" in capsys.readouterr().out
    subprocess.run([sys.executable, "-m", "deployments.simulated_fibres", str(tmp_path / "b"), *arguments], check=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a"), *arguments])
    assert "give another folder" in capsys.readouterr().err
