"""Tiles that are clustered: new ones were not learned from, measured ones are whole, and the same comes out again."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dlsia_core.shapes import random_shapes
from dlsia_core.shapes_experiment import SHAPES_OF_THE_EXPERIMENT, adjusted_rand_index
from tasks.errors import SettingsError
from tasks.report_tiles import write_tiles
from tasks.settings.tile_clusters import TileClusterSettings
from tasks.tile_clusters import cluster_tiles, learn_tiles
from tasks.tile_source import Tiles, check_enough, generated_tiles, measured_tiles

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = TileClusterSettings(
    training_tiles=12, new_tiles=16, base_channels=2, latent=4, epochs=2, n_neighbors=4, min_cluster_size=3,
    min_samples=2, device="cpu",
)  # fmt: skip


def changed(**changes: object) -> TileClusterSettings:
    return TileClusterSettings(**{**SMALL.model_dump(), **changes})


class Frames:
    """Frames with a known pixel value at each place, one pixel of each third frame not measured."""

    n_frames, shape, lineage = 9, (70, 40), "known"
    normalized = SimpleNamespace(scan=SimpleNamespace(path="scan.zarr"))

    def read(self, frame: int) -> np.ndarray:
        rows, columns = np.indices(self.shape)
        values = (10_000 * frame + 100 * rows + columns).astype(np.float32)
        if frame % 3 == 0:
            values[20, 5] = np.nan
        return values


def test_measured_tiles_are_whole_do_not_overlap_and_are_where_they_say() -> None:
    settings = changed(tile_px=16, training_tiles=20, new_tiles=30)
    tiles = measured_tiles.fn(Frames(), settings)  # type: ignore[arg-type]
    assert (len(tiles.training), len(tiles.new)) == (20, 30)
    assert tiles.remarks == ()
    corners = np.concatenate([tiles.training, tiles.new])[:, 0, 0].astype(int)
    assert len(set(corners)) == 50
    for tile, (frame, row, column) in zip(tiles.new, tiles.places, strict=True):  # type: ignore[arg-type]
        assert np.array_equal(tile, Frames().read(frame)[row : row + 16, column : column + 16])
        assert (row % 16, column % 16) == (0, 0)
        assert not (frame % 3 == 0 and row == 16 and column == 0)
    again = measured_tiles.fn(Frames(), settings)  # type: ignore[arg-type]
    assert np.array_equal(again.new, tiles.new)
    assert again.digest == tiles.digest
    other = measured_tiles.fn(Frames(), changed(tile_px=16, training_tiles=20, new_tiles=30, seed=1))  # type: ignore[arg-type]
    assert not np.array_equal(other.new, tiles.new)


def test_all_whole_tiles_are_shared_out_where_there_are_fewer_than_wanted() -> None:
    tiles = measured_tiles.fn(Frames(), changed(tile_px=16, training_tiles=400, new_tiles=200))  # type: ignore[arg-type]
    assert len(tiles.training) + len(tiles.new) == 9 * 4 * 2 - 3  # of 4 x 2 places, one in three frames is not whole
    assert len(tiles.training) == 46
    assert "46 tiles to learn from and 23 others, not 400 and 200" in tiles.remarks[0]


def test_generated_tiles_are_the_experiments() -> None:
    tiles = generated_tiles.fn(SMALL)
    expected = random_shapes(range(12, 28), SMALL.seed, SHAPES_OF_THE_EXPERIMENT)
    assert np.array_equal(tiles.new, expected.images)
    assert np.array_equal(tiles.training, random_shapes(range(12), SMALL.seed, SHAPES_OF_THE_EXPERIMENT).images)


def test_too_few_tiles_are_refused_before_anything_is_learned() -> None:
    with pytest.raises(SettingsError, match="there are 5 new tiles, measured in every pixel, and the map needs 8"):
        check_enough(SMALL, 5)
    with pytest.raises(SettingsError, match="min_cluster_size 40"):
        measured_tiles.fn(Frames(), changed(tile_px=16, min_cluster_size=40))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="hold no tile of 64"):
        measured_tiles.fn(Frames(), SMALL)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="drawn on tiles of 64"):
        generated_tiles.fn(changed(tile_px=32))


@pytest.fixture(scope="module")
def generated() -> Tiles:
    return generated_tiles.fn(SMALL)


def test_table_and_page_tell_what_was_found_and_a_trained_network_is_not_trained_again(
    tmp_path: Path, generated: Tiles
) -> None:
    model = learn_tiles.fn(tmp_path, generated, SMALL)
    written_at = (Path(model.folder) / "model.json").stat().st_mtime_ns
    found = cluster_tiles.fn(model, generated, SMALL)
    again = learn_tiles.fn(tmp_path, generated, changed(n_neighbors=5))  # of the map, which is drawn anew
    assert again == model
    assert (Path(model.folder) / "model.json").stat().st_mtime_ns == written_at
    assert found.latent.shape == (16, 4)
    assert found.reconstruction.shape == (16, 64, 64)
    assert found.pearson == pytest.approx(
        np.corrcoef(found.reconstruction.ravel(), generated.new.ravel())[0, 1], abs=1e-5
    )
    assert generated.shape is not None
    assert found.adjusted_rand == adjusted_rand_index(generated.shape, found.cluster)
    written = write_tiles(tmp_path, "generated shapes", generated, found)
    with Path(written.results).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == found.cluster.tolist()
    assert sum(row["tiles"] for row in written.clusters) == 16
    page = Path(written.report).read_text()
    assert written.verdict in page
    assert page.count("<img") >= 3
    repeated = cluster_tiles.fn(model, generated, SMALL)
    assert np.array_equal(repeated.coordinates, found.coordinates)


def test_measured_values_come_back_in_their_own_units(tmp_path: Path) -> None:
    settings = changed(tile_px=16, training_tiles=20, new_tiles=30, epochs=1)
    tiles = measured_tiles.fn(Frames(), settings)  # type: ignore[arg-type]
    found = cluster_tiles.fn(learn_tiles.fn(tmp_path, tiles, settings), tiles, settings)
    # Values are about 40,000 and the network sees them standardized: whatever it gives is near them again.
    assert abs(float(found.reconstruction.mean()) - float(tiles.training.mean())) < float(tiles.training.std())
    assert found.adjusted_rand is None
    header = Path(write_tiles(tmp_path, "scan", tiles, found).results).read_text().splitlines()[0]
    assert header == "tile,frame,row,column,umap_1,umap_2,cluster"
