"""What the latent map shows: points, thumbnails on one color scale, colors by cluster and by frame number."""

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from tasks.report.content import MAX_THUMBNAILS, Integer, LatentMap, frames_with_thumbnail
from tasks.report.formats import count
from tasks.report.map_plot import bokeh_json, still_png
from tasks.report.markup import clean
from tasks.report.pixels import ColorScale, color_indices, color_table, data_uri, png_bytes, reduce_values

MAX_POINTS = 10_000
MAX_SIDE = 64
MAX_THUMBNAIL_BYTES = 6_000_000
"""Of all thumbnails together; noise compresses badly, and then fewer of them are embedded."""
MAX_NAME = 120
LEVELS = 64
NOISE_COLOR = "#9aa0a6"
# Okabe & Ito (2008), Color Universal Design; without black and grey, which are the axes and the noise.
CLUSTER_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")
NUMBER_COLOR_MAP = "plasma"
# White, and so low that it is not taken for a frame.
NO_THUMBNAIL = data_uri(png_bytes(np.zeros((1, 64), np.uint8), np.full((1, 3), 255, np.uint8)))


@dataclass(frozen=True)
class MapView:
    """What the page needs: the map's JSON, a still picture, the thumbnails' scale, legend rows and statements."""

    json: str
    still: str
    scale: ColorScale | None
    legend: tuple[tuple[str, str, str, int], ...]
    """Cluster, color, marker, number of frames."""
    number_range: tuple[int, int] | None
    number_bar: str
    notes: tuple[str, ...]


def map_view(latent: LatentMap) -> MapView | None:
    """Prepare the map; None where no frame has coordinates."""
    drawable = np.flatnonzero(np.isfinite(np.asarray(latent.coordinates, np.float64)).all(axis=-1))
    if not drawable.size:
        return None
    with_image = np.flatnonzero(np.isin(latent.shown_frames, drawable))
    with_image = with_image[frames_with_thumbnail(len(with_image))]
    # A thumbnail cannot be hovered over without its point, so frames that have one are always drawn.
    limit = MAX_POINTS if len(drawable) <= MAX_POINTS else MAX_POINTS - MAX_THUMBNAILS
    points = np.union1d(drawable[frames_with_thumbnail(len(drawable), limit)], latent.shown_frames[with_image])
    scale = ColorScale.of(*latent.thumbnails[with_image]) if with_image.size else None
    images = thumbnail_uris(latent, with_image, scale)
    styles = cluster_styles(latent.cluster)
    columns = _columns(latent, points, styles, images)
    numbers = latent.frame_numbers[points]
    known = numbers[numbers >= 0]
    counts = {c: int((np.maximum(latent.cluster, -1) == c).sum()) for c in styles}
    return MapView(
        json=bokeh_json(columns),
        still=data_uri(still_png(columns)),
        scale=scale,
        legend=tuple((cluster_name(c), color, marker, counts[c]) for c, (color, marker) in styles.items()),
        number_range=(int(known.min()), int(known.max())) if known.size else None,
        number_bar=_number_bar(),
        notes=_notes(len(latent.frame_names), len(drawable), len(points), len(images)),
    )


def thumbnail_uris(latent: LatentMap, which: Integer, scale: ColorScale | None) -> dict[int, str]:
    """PNGs of the chosen thumbnails by frame, all on one color scale; fewer, evenly spread, if too large together."""
    colors = color_table(LEVELS)
    images = {}
    for position in which:
        thumbnail = np.asarray(latent.thumbnails[position], np.float32)
        small = reduce_values(thumbnail, -(-max(thumbnail.shape) // MAX_SIDE))
        uri = data_uri(png_bytes(color_indices(small, scale, LEVELS), colors))
        images[int(latent.shown_frames[position])] = uri
    total = sum(map(len, images.values()))
    if total <= MAX_THUMBNAIL_BYTES:
        return images
    frames = list(images)
    largest = max(map(len, images.values()))
    return {frames[i]: images[frames[i]] for i in frames_with_thumbnail(len(frames), MAX_THUMBNAIL_BYTES // largest)}


def cluster_name(cluster: int) -> str:
    """Name a cluster as hover and legend show it."""
    return "noise" if cluster < 0 else str(cluster)


def cluster_styles(clusters: Integer) -> dict[int, tuple[str, str]]:
    """Color and marker of each cluster; noise is grey, and markers differ where colors repeat.

    >>> cluster_styles(np.array([1, -1, 0]))
    {0: ('#0072b2', 'circle'), 1: ('#e69f00', 'square'), -1: ('#9aa0a6', 'x')}
    """
    styles = {}
    for cluster in sorted({int(c) for c in clusters if c >= 0}):
        # 7 colors and 6 markers have no common factor: the first 42 clusters all look different.
        styles[cluster] = (CLUSTER_COLORS[cluster % len(CLUSTER_COLORS)], MARKERS[cluster % len(MARKERS)])
    if (np.asarray(clusters) < 0).any():
        styles[-1] = (NOISE_COLOR, "x")
    return styles


def _columns(
    latent: LatentMap, points: Integer, styles: dict[int, tuple[str, str]], images: dict[int, str]
) -> dict[str, Any]:
    clusters = [max(int(c), -1) for c in latent.cluster[points]]
    numbers = latent.frame_numbers[points]
    coordinates = np.asarray(latent.coordinates, np.float64)[points]
    return {
        "x": coordinates[:, 0],
        "y": coordinates[:, 1],
        "name": [_short(latent.frame_names[i]) for i in points],
        "number": [str(n) if n >= 0 else "unknown" for n in numbers],
        "cluster": [cluster_name(c) for c in clusters],
        "cluster_color": [styles[c][0] for c in clusters],
        "marker": [styles[c][1] for c in clusters],
        "number_color": _number_colors(numbers),
        "thumbnail": [images.get(int(i), NO_THUMBNAIL) for i in points],
        "note": ["" if int(i) in images else "no thumbnail embedded" for i in points],
    }


def _number_colors(numbers: Integer) -> list[str]:
    known = numbers >= 0
    low, high = (int(numbers[known].min()), int(numbers[known].max())) if known.any() else (0, 0)
    colors = _number_rgb((numbers - low) / max(high - low, 1))
    return [f"#{bytes(rgb).hex()}" if yes else NOISE_COLOR for rgb, yes in zip(colors, known, strict=True)]


def _number_bar() -> str:
    ramp = np.arange(LEVELS, dtype=np.uint8)[None, :]
    return data_uri(png_bytes(ramp, _number_rgb(np.linspace(0, 1, LEVELS))))


def _number_rgb(relative: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    # Without the ends of the color map: a blue that nobody sees on black and a yellow that nobody sees on white.
    rgb = mpl.colormaps[NUMBER_COLOR_MAP](0.25 + 0.65 * np.clip(relative, 0, 1))[:, :3]
    return np.asarray(np.round(rgb * 255), np.uint8)


def _short(name: str) -> str:
    shown = clean(name)
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME // 2]}…{shown[-MAX_NAME // 2 :]}"


def _notes(n_frames: int, n_drawable: int, n_points: int, n_images: int) -> tuple[str, ...]:
    notes = []
    if n_drawable < n_frames:
        notes.append(f"{count(n_frames - n_drawable, 'frame')} without coordinates not drawn.")
    if n_points < n_drawable:
        notes.append(f"Drawn are {n_points:,} of {count(n_drawable, 'frame')}, evenly spread over the scan.")
    if n_images < n_points:
        notes.append(f"{n_images:,} of {count(n_points, 'point')} carry a thumbnail, evenly spread over the scan.")
    return tuple(notes)
