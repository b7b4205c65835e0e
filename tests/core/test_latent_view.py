"""The latent map of thumbnails: every full bin is visible, one color scale for all, the right image at each place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.colors import to_rgba

from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.latent import umap_coordinates
from dlsia_core.plots import plot_latent_points, plot_latent_view
from dlsia_core.plots.latent_bins import bin_points, bin_thumbnails
from dlsia_core.plots.style import CLASS_COLORS, NO_VALUE

# Four bins of side 1 along a line, holding 1, 2, 3 and 1 points.
PLACES = np.array([[0.0, 0.0], [1.1, 0.0], [1.4, 0.0], [2.5, 0.0], [2.6, 0.0], [2.9, 0.0], [4.0, 0.0]])
IMAGES = np.broadcast_to(np.arange(7, dtype=np.float32)[:, None, None], (7, 5, 4)).copy()

points = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-1e3, 1e3, allow_subnormal=False)
)


def thumbnails_of(figure) -> list[np.ndarray]:
    return [image.get_array() for image in figure.axes[0].images]


@pytest.mark.parametrize(("min_count", "visible"), [(1, 4), (2, 2), (3, 1)])
def test_bins_that_hold_exactly_min_count_images_are_visible(min_count: int, visible: int) -> None:
    """In dlsia a bin needed one image more than asked for."""
    assert bin_points(PLACES, 4).counts.tolist() == [[1, 2, 3, 1]]
    assert len(thumbnails_of(plot_latent_view(PLACES, IMAGES, bins=4, min_count=min_count))) == visible
    with pytest.raises(ArrayError, match="min_count = 4 images; the fullest holds 3"):
        plot_latent_view(PLACES, IMAGES, bins=4, min_count=4)


def test_all_thumbnails_share_one_color_scale() -> None:
    """In dlsia each had its own, so that a dim image looked like a bright one."""
    figure = plot_latent_view(PLACES, IMAGES, bins=4, unit="counts")
    limits = {image.get_clim() for image in figure.axes[0].images}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == pytest.approx(0, abs=0.01)
    assert high == pytest.approx(6, abs=0.01)
    assert figure.axes[1].get_ylabel() == "counts"
    given = plot_latent_view(PLACES, IMAGES, bins=4, limits=(-1, 9))
    assert {image.get_clim() for image in given.axes[0].images} == {(-1, 9)}


def test_umap_is_in_the_library_and_its_map_can_be_shown() -> None:
    """In dlsia it was left to the caller."""
    latent = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    figure = plot_latent_view(umap_coordinates(latent).coordinates, np.ones((12, 8, 8)), bins=5)
    assert figure.axes[0].get_xlabel() == "UMAP 1 (no unit)"


def test_each_bin_shows_the_image_nearest_to_its_center_or_the_mean() -> None:
    nearest = [image[0, 0] for image in thumbnails_of(plot_latent_view(PLACES, IMAGES, bins=4))]
    assert nearest == [0, 2, 3, 6]
    mean = [image[0, 0] for image in thumbnails_of(plot_latent_view(PLACES, IMAGES, bins=4, representative="mean"))]
    assert mean == [0, 1.5, 4, 6]


def test_thumbnails_stand_where_their_bins_are_upright_and_undistorted() -> None:
    places = np.array([[10.0, -3.0], [14.0, 1.0]])
    images = np.zeros((2, 6, 3))
    images[:, 0] = 1
    figure = plot_latent_view(places, images, bins=4)
    axes = figure.axes[0]
    assert axes.get_aspect() == 1
    for image, center in zip(axes.images, ((10.5, -2.5), (13.5, 0.5)), strict=True):
        left, right, bottom, top = image.get_extent()
        assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx(center)
        assert (top - bottom) / (right - left) == pytest.approx(2), "as 6 x 3 pixels are"
        assert top > bottom
        assert 0.8 < top - bottom <= 1
        assert image.origin == "upper"
    assert axes.get_xlim()[0] < 10
    assert axes.get_xlim()[1] > 14
    assert axes.get_ylim()[0] < -3
    assert axes.get_ylim()[1] > 1


@given(coordinates=points, bins=st.integers(1, 12))
def test_every_point_is_in_one_bin_that_contains_it(coordinates: np.ndarray, bins: int) -> None:
    binned = bin_points(coordinates, bins)
    assert binned.counts.sum() == len(coordinates)
    assert max(binned.counts.shape) <= bins
    row, column = binned.bin_of_point.T
    for place, lowest, index in (
        (coordinates[:, 0], binned.corner[0], column),
        (coordinates[:, 1], binned.corner[1], row),
    ):
        slack = 1e-6 * binned.side
        assert (place >= lowest + index * binned.side - slack).all()
        assert (place <= lowest + (index + 1) * binned.side + slack).all()
    filled = binned.counts > 0
    assert np.array_equal(binned.nearest >= 0, filled)
    assert np.array_equal(binned.bin_of_point[binned.nearest[filled]], np.argwhere(filled))


@given(coordinates=points, bins=st.integers(1, 6))
def test_the_nearest_and_the_mean_agree_with_a_plain_loop(coordinates: np.ndarray, bins: int) -> None:
    binned = bin_points(coordinates, bins)
    images = np.random.default_rng(0).normal(size=(len(coordinates), 2, 3)).astype(np.float32)
    means = bin_thumbnails(images, binned, representative="mean")
    for row, column in np.ndindex(binned.counts.shape):
        members = [k for k, place in enumerate(binned.bin_of_point) if tuple(place) == (row, column)]
        if not members:
            assert np.isnan(means[row, column]).all()
            continue
        center = np.array(binned.corner) + (np.array([column, row]) + 0.5) * binned.side
        distance = [float(((coordinates[k] - center) ** 2).sum()) for k in members]
        assert distance[members.index(binned.nearest[row, column])] == pytest.approx(min(distance))
        np.testing.assert_allclose(means[row, column], images[members].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_equally_near_images_give_the_first_and_equal_places_one_bin() -> None:
    assert bin_points(np.zeros((3, 2)), 5).nearest.tolist() == [[0]]
    assert bin_points(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), 2).nearest[0, 0] == 0


def test_pixels_without_a_value_are_left_out_of_the_mean_and_large_images_averaged_down() -> None:
    images = np.array([[[1.0, np.nan]], [[3.0, np.nan]]], np.float32)
    binned = bin_points(np.zeros((2, 2)), 1)
    np.testing.assert_array_equal(bin_thumbnails(images, binned, representative="mean")[0, 0], [[2, np.nan]])
    large = np.random.default_rng(0).normal(size=(2, 256, 128)).astype(np.float32)
    shown = thumbnails_of(plot_latent_view(np.array([[0.0, 0.0], [1.0, 1.0]]), large, bins=2))[0]
    np.testing.assert_allclose(shown, large[0].reshape(64, 4, 32, 4).mean(axis=(1, 3)), atol=1e-6)


def test_frames_have_the_color_of_the_image_shown_or_of_most_images() -> None:
    groups = np.array([0, 1, 2, 0, 0, 1, -1])

    def frames(how: str) -> list[tuple[float, ...]]:
        figure = plot_latent_view(
            PLACES, IMAGES, bins=4, groups=groups, group_names=["a", "b", "c"], representative=how
        )
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "noise"]
        return [tuple(color) for color in figure.axes[0].collections[0].get_edgecolor()]

    noise = to_rgba(NO_VALUE)
    first, second, third = (to_rgba(color) for color in CLASS_COLORS[:3])
    assert frames("nearest") == [first, third, first, noise]
    assert frames("mean") == [first, second, first, noise], "of one and one the smaller number"


def test_points_are_colored_by_group() -> None:
    figure = plot_latent_points(PLACES, np.array([0, 0, 1, 1, 1, -1, -1]), group_names=["a", "b"])
    sizes = {tuple(c.get_facecolor()[0][:3]): len(c.get_offsets()) for c in figure.axes[0].collections}
    assert sizes == {to_rgba(c)[:3]: n for c, n in ((NO_VALUE, 2), (CLASS_COLORS[0], 2), (CLASS_COLORS[1], 3))}


def test_a_map_of_noise_alone_can_be_drawn() -> None:
    for how in ("nearest", "mean"):
        figure = plot_latent_view(PLACES, IMAGES, bins=4, groups=np.full(7, -1), representative=how)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["noise"]
        assert {tuple(color) for color in figure.axes[0].collections[0].get_edgecolor()} == {to_rgba(NO_VALUE)}
    assert plot_latent_points(PLACES, np.full(7, -1), group_names=[]).legends


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": PLACES[:, :1]}, r"wanted \(frame, 2\)"),
        ({"coordinates": PLACES * np.nan}, "finite"),
        ({"images": IMAGES[:5]}, r"wanted \(7, y, x\), one per point"),
        ({"images": IMAGES[0]}, "images have shape"),
        ({"groups": np.zeros(3, int)}, r"groups have shape \(3,\)"),
        ({"groups": np.full(7, -2)}, "-1 and up"),
        ({"groups": np.arange(7), "group_names": ["a"]}, "1 group names for 7 groups"),
        ({"images": np.full((7, 3, 3), np.nan)}, "no finite value"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        plot_latent_view(**{"coordinates": PLACES, "images": IMAGES} | change)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="bins is 0"):
        plot_latent_view(PLACES, IMAGES, bins=0)
    with pytest.raises(SettingError, match="min_count is 0"):
        plot_latent_view(PLACES, IMAGES, min_count=0)
    with pytest.raises(SettingError, match="representative is 'median'"):
        plot_latent_view(PLACES, IMAGES, representative="median")
