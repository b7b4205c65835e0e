"""The latent map: every point carries the right frame, and all thumbnails are on one color scale."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from dlsia_core.errors import ArrayError
from tasks.report import frames_with_thumbnail
from tasks.report.latent_map import NOISE_COLOR, cluster_styles, map_view
from tasks.report.map_section import map_section


def sources(text):
    """Columns of each data source in the map's JSON, arrays decoded."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            if node.get("name") == "ColumnDataSource":
                entries = dict(node["attributes"]["data"]["entries"])
                found.append({key: values for key, values in entries.items() if isinstance(values, list)})
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(text))
    return found


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)


def test_hover_shows_thumbnail_name_number_and_cluster(make_map):
    view = map_view(make_map())
    (columns,) = sources(view.json)
    assert columns["name"] == [f"scan_{i:05d}.cbf" for i in range(12)]
    assert columns["number"] == [str(i + 100) for i in range(12)]
    assert columns["cluster"][:6] == ["noise", "1", "0", "1", "0", "noise"]
    assert all(uri.startswith("data:image/png;base64,") for uri in columns["thumbnail"])
    for column in ("@thumbnail", "@name", "@number", "@cluster"):
        assert column in view.json


def test_thumbnails_are_on_one_scale(make_map):
    thumbnails = np.stack([np.linspace(0, 0.2, 64), np.linspace(0.2, 1, 64)]).reshape(2, 8, 8).astype(np.float32)
    view = map_view(make_map(2, thumbnails=thumbnails))
    dark, bright = (pixels(uri) for uri in sources(view.json)[0]["thumbnail"])
    # The brightest pixel of the one is the darkest of the other: the same value, so the same color.
    np.testing.assert_array_equal(dark[-1, -1], bright[0, 0])
    assert not (dark[0, 0] == bright[0, 0]).all()
    assert (view.scale.low, view.scale.high) == pytest.approx((0, 1), abs=0.01)


def test_scale_of_the_thumbnails_is_stated(make_map):
    section, _ = map_section(make_map())
    assert "normalized log counts, the same scale for all thumbnails" in section


def test_thumbnails_belong_to_the_frames_that_they_were_given_for(make_map):
    thumbnails = np.stack([np.full((4, 4), value, np.float32) for value in (0.0, 1.0)])
    view = map_view(make_map(5, thumbnails=thumbnails, thumbnail_of=np.array([3, 1])))
    (columns,) = sources(view.json)
    assert [not note for note in columns["note"]] == [False, True, False, True, False]
    shown = [pixels(uri) for uri in columns["thumbnail"]]
    assert shown[1][0, 0].sum() > shown[3][0, 0].sum(), "frame 1 is the bright one"
    assert all((shown[i] == 255).all() for i in (0, 2, 4))
    assert view.notes == ("2 of 5 points carry a thumbnail, evenly spread over the scan.",)


def test_large_thumbnails_are_reduced_to_64_pixels(make_map):
    view = map_view(make_map(2, side=130))
    assert pixels(sources(view.json)[0]["thumbnail"][0]).shape == (44, 44, 3)


def test_noise_is_grey_and_clusters_are_told_apart_without_color():
    styles = cluster_styles(np.arange(-1, 42))
    assert styles[-1] == (NOISE_COLOR, "x")
    assert len(set(styles.values())) == 43


def test_points_and_thumbnails_are_capped_and_every_thumbnail_has_its_point(make_map):
    n_frames = 12_345
    chosen = frames_with_thumbnail(n_frames)
    assert len(chosen) == 2000
    thumbnails = np.zeros((2000, 2, 2), np.float32)
    view = map_view(make_map(n_frames, thumbnails=thumbnails, thumbnail_of=chosen))
    (columns,) = sources(view.json)
    assert columns["note"].count("") == 2000
    assert 8000 <= len(columns["name"]) <= 10_000
    assert "of 12,345 frames, evenly spread" in view.notes[0]
    assert "2,000 of" in view.notes[1]


def test_frames_without_coordinates_are_left_out_and_counted(make_map):
    coordinates = np.zeros((3, 2), np.float32)
    coordinates[1] = np.nan
    view = map_view(make_map(3, coordinates=coordinates))
    assert sources(view.json)[0]["name"] == ["scan_00000.cbf", "scan_00002.cbf"]
    assert view.notes == ("1 frame without coordinates not drawn.",)
    nowhere, text = map_section(make_map(3, coordinates=np.full((3, 2), np.nan)))
    assert "no frame has coordinates" in nowhere
    assert text == ""


def test_unknown_numbers_and_long_names_are_shown_as_such(make_map):
    view = map_view(make_map(2, frame_numbers=np.array([-1, 7]), frame_names=["a" * 300, "b"]))
    (columns,) = sources(view.json)
    assert columns["number"] == ["unknown", "7"]
    assert len(columns["name"][0]) == 121


def test_map_of_nothing_measured_has_no_scale(make_map):
    view = map_view(make_map(2, thumbnails=np.full((2, 4, 4), np.nan, np.float32)))
    assert view.scale is None


def test_lengths_that_disagree_are_refused(make_map):
    with pytest.raises(ArrayError, match=r"latent map of 12 frame names has other lengths.*'cluster': 3"):
        make_map(cluster=np.zeros(3, int))
    with pytest.raises(ArrayError, match="12 thumbnails for 1 of 12 frames"):
        make_map(thumbnail_of=np.array([0]))
    with pytest.raises(ArrayError, match="each needs one frame"):
        make_map(thumbnails=np.zeros((1, 2, 2), np.float32), thumbnail_of=np.array([12]))
