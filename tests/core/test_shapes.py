"""Random shapes: areas are those of geometry, rotation and position do what they say, noise is Gaussian, seeds rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from skimage.draw import polygon2mask

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.shapes import PARAMETERS, SHAPES, ShapeSettings, draw_shape, random_shapes

QUIET = ShapeSettings(noise=0)
FINE = 8


def one(
    shape: str, y: float = 31.5, x: float = 31.5, radius: float = 20, ratio: float = 0.5, angle: float = 0
) -> np.void:
    return np.array([(shape, y, x, radius, ratio, angle)], PARAMETERS)[0]


def area(parameters: np.ndarray) -> np.ndarray:
    """By geometry, from the radius of the circle around each shape."""
    r, q = parameters["radius"], parameters["ratio"]
    areas = {
        "circle": np.pi * r**2,
        "annulus": np.pi * r**2 * (1 - q**2),
        "rectangle": 4 * r**2 * q / (1 + q**2),
        "triangle": 3 * np.sqrt(3) / 4 * r**2,
    }
    return np.select([parameters["shape"] == name for name in areas], list(areas.values()))


def test_areas_are_those_of_geometry() -> None:
    tiles = random_shapes(range(400), 0, QUIET)
    assert set(tiles.parameters["shape"]) == set(SHAPES)
    expected = area(tiles.parameters)
    covered = tiles.clean.sum(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(covered, expected, rtol=0.01)
    hard = random_shapes(range(400), 0, ShapeSettings(noise=0, edges="hard"))
    counted = hard.clean.sum(axis=(1, 2), dtype=np.float64)
    # Counted centers scatter around the area, by about a pixel in ten along the edge.
    assert abs((counted - expected).mean()) < 1
    np.testing.assert_allclose(counted, expected, rtol=0.12)


def corners(record: np.void) -> np.ndarray:
    """(corner, (y, x)) of a triangle or rectangle, by going around the circle through them."""
    if record["shape"] == "triangle":
        turns = record["angle"] + 2 * np.pi / 3 * np.arange(3)
    else:
        half = np.arctan(record["ratio"])
        turns = record["angle"] + np.array([half, np.pi - half, np.pi + half, -half])
    return np.stack([record["y"] + record["radius"] * np.sin(turns), record["x"] + record["radius"] * np.cos(turns)], 1)


@pytest.mark.parametrize("shape", ["triangle", "rectangle"])
def test_polygons_agree_with_another_implementation(shape: str) -> None:
    """Each pixel split into 8 x 8, and counted with scikit-image's polygons."""
    for record in random_shapes(range(8), 3, ShapeSettings(shapes=(shape,))).parameters:
        fine = polygon2mask((64 * FINE, 64 * FINE), (corners(record) + 0.5) * FINE - 0.5)
        covered = fine.reshape(64, FINE, 64, FINE).mean(axis=(1, 3))
        drawn = draw_shape(record, (64, 64))
        assert np.abs(drawn - covered).max() < 0.2
        assert np.abs(drawn - covered).mean() < 0.002
        assert np.mean((draw_shape(record, (64, 64), "hard") > 0) != (covered > 0.5)) < 0.003


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edges", ["smooth", "hard"])
def test_a_quarter_turn_of_the_shape_is_a_quarter_turn_of_the_image(shape: str, edges: str) -> None:
    plain = draw_shape(one(shape, angle=0.3), (64, 64), edges)
    turned = draw_shape(one(shape, angle=0.3 + np.pi / 2), (64, 64), edges)
    np.testing.assert_allclose(turned, np.rot90(plain, -1), atol=1e-6)
    shifted = draw_shape(one(shape, y=36.5, x=28.5, angle=0.3), (64, 64), edges)
    np.testing.assert_allclose(shifted, np.roll(plain, (5, -3), (0, 1)), atol=1e-6)


@given(shape=st.sampled_from(SHAPES), angle=st.floats(0, 6.3), ratio=st.floats(0.2, 0.8), radius=st.floats(6, 31))
def test_turning_keeps_the_area_and_round_shapes(shape: str, angle: float, ratio: float, radius: float) -> None:
    straight, turned = (draw_shape(one(shape, radius=radius, ratio=ratio, angle=a), (64, 64)) for a in (0, angle))
    assert turned.sum() == pytest.approx(straight.sum(), rel=0.03)
    assert turned.min() >= 0
    assert turned.max() <= 1
    if radius > 15:  # then every wall is thicker than a pixel's diagonal, so that some pixel lies wholly inside
        assert turned.max() == 1
    if shape in ("circle", "annulus"):
        assert np.array_equal(straight, turned)


def test_thin_shapes_keep_their_area() -> None:
    for ratio in (0.01, 0.02):
        assert draw_shape(one("rectangle", ratio=ratio), (64, 64)).sum() == pytest.approx(1600 * ratio, rel=0.01)
    assert draw_shape(one("annulus", ratio=0.99), (64, 64)).sum() == pytest.approx(
        np.pi * 400 * (1 - 0.99**2), rel=0.05
    )


def test_noise_is_gaussian_with_the_stated_standard_deviation() -> None:
    """In dlsia it is uniform, of mean half the level."""
    tiles = random_shapes(range(40), 5, ShapeSettings(noise=0.2))
    noise = (tiles.images - tiles.clean).ravel().astype(np.float64)
    assert noise.size == 40 * 64 * 64
    assert abs(noise.mean()) < 4 * 0.2 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(0.2, rel=0.01)
    assert stats.kurtosis(noise) == pytest.approx(0, abs=0.06), "a uniform distribution has -1.2"
    assert stats.kstest(noise / 0.2, "norm").pvalue > 1e-3
    first, second = noise[: noise.size // 2], noise[noise.size // 2 :]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015
    assert np.array_equal(random_shapes(range(3), 5, QUIET).images, random_shapes(range(3), 5, QUIET).clean)


def test_a_tile_is_a_function_of_seed_and_index_alone() -> None:
    """In dlsia there is no seed."""
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is left alone is the point
    whole, part = random_shapes(range(30), 7), random_shapes([29, 4, 4], 7)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    for name in ("images", "clean", "shape", "label"):
        assert np.array_equal(getattr(whole, name)[[29, 4, 4]], getattr(part, name))
    assert np.array_equal(whole.parameters["radius"][[29, 4, 4]], part.parameters["radius"])
    assert not np.array_equal(whole.images, random_shapes(range(30), 8).images)
    other = random_shapes(range(30), 7, ShapeSettings(noise=0.5, edges="hard"))
    for name in ("y", "x", "radius", "angle"):
        assert np.array_equal(other.parameters[name], whole.parameters[name])


def test_shapes_stay_inside_and_settings_bound_the_draws() -> None:
    settings = ShapeSettings(tile_size=(40, 56), radius=(5, 15), noise=0, rectangle_ratio=(0.3, 0.4))
    tiles = random_shapes(range(300), 1, settings)
    p = tiles.parameters
    for name, length in (("y", 40), ("x", 56)):
        assert (p[name] - p["radius"] >= -0.5 - 1e-9).all()
        assert (p[name] + p["radius"] <= length - 0.5 + 1e-9).all()
    assert stats.kstest((p["radius"] - 5) / 10, "uniform").pvalue > 1e-3
    assert stats.kstest(p["angle"] / (2 * np.pi), "uniform").pvalue > 1e-3
    rectangles = p["shape"] == "rectangle"
    assert ((p["ratio"][rectangles] >= 0.3) & (p["ratio"][rectangles] <= 0.4)).all()
    assert np.isnan(p["ratio"][(p["shape"] == "circle") | (p["shape"] == "triangle")]).all()
    assert np.bincount(tiles.shape, minlength=4).min() > 50
    near = random_shapes(range(50), 1, ShapeSettings(max_shift=2)).parameters
    assert (np.abs(near["y"] - 31.5) <= 2).all()
    assert np.abs(near["x"] - 31.5).max() > 1
    centered = random_shapes(range(5), 1, ShapeSettings(max_shift=0)).parameters
    assert (centered["y"] == 31.5).all()
    outside = random_shapes(range(50), 1, ShapeSettings(radius=(30, 60), inside=False, noise=0))
    assert (outside.parameters["x"] + outside.parameters["radius"] > 63.5).any()
    assert outside.clean.max() == 1


def test_label_images_hold_the_class_where_a_pixel_center_is_covered() -> None:
    tiles = random_shapes(range(40), 2, QUIET)
    for clean, label, shape in zip(tiles.clean, tiles.label, tiles.shape, strict=True):
        assert set(np.unique(label)) == {0, shape + 1}
        assert (label[clean > 0.75] == shape + 1).all()
        assert (label[clean < 0.25] == 0).all()
    assert [SHAPES[number] for number in tiles.shape] == tiles.parameters["shape"].tolist()
    assert (tiles.label.dtype, tiles.images.dtype, tiles.shape.dtype) == (np.uint8, np.float32, np.int64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shapes": ("circle", "star")}, "shapes is .*star.*circle"),
        ({"shapes": ()}, "shapes is"),
        ({"radius": (20, 33)}, "at most 32, half the tile"),
        ({"radius": (9, 8)}, "radius is"),
        ({"rectangle_ratio": (0.0, 0.5)}, "rectangle_ratio is"),
        ({"annulus_ratio": (0.5, 1.0)}, "annulus_ratio is"),
        ({"max_shift": -1}, "max_shift is"),
        ({"edges": "soft"}, "edges is 'soft'"),
        ({"noise": -0.1}, "noise is"),
        ({"noise": float("nan")}, "noise is"),
        ({"tile_size": (64,)}, "tile_size is"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ShapeSettings(**settings)


def test_wrong_indices_and_seeds_are_refused() -> None:
    with pytest.raises(ArrayError, match="at least one"):
        random_shapes([], 0)
    with pytest.raises(ArrayError, match="negative"):
        random_shapes([0, -1], 0)
    with pytest.raises(SettingError, match="seed is -1"):
        random_shapes([0], -1)
    with pytest.raises(SettingError, match="edges is 'soft'"):
        draw_shape(one("circle"), (64, 64), "soft")
