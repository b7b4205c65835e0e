"""Write what clustering of tiles found: tiles.csv, and a page with the map of thumbnails (paper (a), Fig. 9)."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dlsia_core.networks.storage import write_atomically
from dlsia_core.plots import plot_latent_points, plot_latent_view
from dlsia_core.plots.style import new_figure, value_limits
from dlsia_core.shapes import SHAPES
from tasks.report.content import LossCurve
from tasks.report.curves import curve_section
from tasks.report.document import document, section, write_document
from tasks.report.formats import count
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import data_uri
from tasks.tile_clusters import ClusteredTiles
from tasks.tile_source import Tiles

EXAMPLES = 6
BINS = 24


@dataclass(frozen=True)
class WrittenTiles:
    """Where table and page are, the verdict, and the clusters as a table artifact can hold them."""

    results: str
    report: str
    verdict: str
    clusters: tuple[dict[str, Any], ...]


def write_tiles(folder: Path, source: str, tiles: Tiles, found: ClusteredTiles) -> WrittenTiles:
    """Write both; the same clusters give the same bytes."""
    results = folder / "tiles.csv"
    write_atomically(results, _csv(tiles, found).encode())
    verdict, clusters = _verdict(tiles, found), _clusters(tiles, found)
    page = document(f"Clusters of tiles: {verdict}", [_page(source, verdict, clusters, tiles, found)])
    report = write_document(page, folder / "report.html")
    return WrittenTiles(str(results), str(report), verdict, clusters)


def _csv(tiles: Tiles, found: ClusteredTiles) -> str:
    columns: dict[str, Iterable[Any]] = {"tile": range(len(tiles.new))}
    if tiles.places is not None:
        columns |= dict(zip(("frame", "row", "column"), tiles.places.T.tolist(), strict=True))
    if tiles.shape is not None:
        columns["shape"] = [SHAPES[number] for number in tiles.shape]
    columns["umap_1"], columns["umap_2"] = ([f"{value:.6g}" for value in part] for part in found.coordinates.T)
    columns["cluster"] = found.cluster.tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _verdict(tiles: Tiles, found: ClusteredTiles) -> str:
    noise = int((found.cluster < 0).sum())
    said = f"{count(found.n_clusters, 'cluster')} in {count(len(tiles.new), 'tile')}, {noise:,} of them in none"
    said += f"; reconstruction r {found.pearson:.3f}"
    if found.adjusted_rand is not None:
        said += f"; adjusted Rand index with the true shapes {found.adjusted_rand:.3f}"
    return said


def _clusters(tiles: Tiles, found: ClusteredTiles) -> tuple[dict[str, Any], ...]:
    rows = []
    for number in range(-1, found.n_clusters):
        inside = found.cluster == number
        row: dict[str, Any] = {"cluster": "none (noise)" if number < 0 else str(number), "tiles": int(inside.sum())}
        if tiles.shape is not None:
            row |= {name: int((tiles.shape[inside] == shape).sum()) for shape, name in enumerate(SHAPES)}
        if tiles.places is not None:
            row["frames"] = len(np.unique(tiles.places[inside, 0]))
        rows.append(row)
    return tuple(rows)


def _page(
    source: str, verdict: str, clusters: tuple[dict[str, Any], ...], tiles: Tiles, found: ClusteredTiles
) -> Markup:
    head = element(
        "header",
        element("h1", "Clusters of tiles"),
        element("p", verdict, class_="text"),
        element("dl", element("dt", "Source"), element("dd", source), class_="facts"),
    )
    remarks = element("ul", *(element("li", text) for text in tiles.remarks), class_="warnings attention")
    curve = LossCurve(**found.curve)
    parts = [
        section("map", "Map of thumbnails", _map(tiles, found)),
        section("clusters", "Clusters", _table(clusters)),
        section("rebuilt", "Tiles and their reconstructions", _examples(tiles, found)),
        section("training", "Training", element("div", curve_section(curve), class_="curves")),
    ]
    return element("main", head, remarks if tiles.remarks else "", *parts)


def _map(tiles: Tiles, found: ClusteredTiles) -> Markup:
    names = [f"cluster {number}" for number in range(found.n_clusters)]
    unit = "intensity" if tiles.places is None else "normalized"
    view = plot_latent_view(
        found.coordinates, tiles.new, bins=BINS, groups=found.cluster, group_names=names, unit=unit,
        limits=value_limits(tiles.new),
    )  # fmt: skip
    parts = [
        _image(view, "Thumbnails of tiles where their latent vectors lie on the map, framed by cluster"),
        element(
            "p",
            "Each thumbnail is the tile nearest to the middle of its place, all on one color scale; its frame has the "
            "color of the cluster, gray where it belongs to none. Clusters were found on the map alone.",
            class_="note",
        ),
    ]
    if tiles.shape is not None:
        points = plot_latent_points(found.coordinates, tiles.shape, group_names=list(SHAPES))
        parts += [
            _image(points, "The map, points colored by true shape"),
            element("p", "The same map, colored by the true shapes, of which nothing was told.", class_="note"),
        ]
    return join(parts)


def _table(clusters: tuple[dict[str, Any], ...]) -> Markup:
    columns = [(name, "number" if name != "cluster" else "") for name in clusters[0]]
    rows = [[row["cluster"], *(f"{row[name]:,}" for name, _ in columns[1:])] for row in clusters]
    return table("Tiles of each cluster", columns, rows)


def _examples(tiles: Tiles, found: ClusteredTiles) -> Markup:
    chosen = np.unique(np.linspace(0, len(tiles.new) - 1, EXAMPLES).round().astype(int))
    low, high = value_limits(tiles.new[chosen])
    figure, axes = new_figure(len(chosen), 2, panel=(1.4, 1.5))
    for column, tile in enumerate(chosen):
        for row, values in enumerate((tiles.new, found.reconstruction)):
            each = axes[row * len(chosen) + column]
            each.imshow(values[tile], cmap="gray", vmin=low, vmax=high)
            each.set_xticks([])
            each.set_yticks([])
            each.set_title(f"tile {tile}" if row == 0 else "reconstructed", fontsize=7)
    text = "Tiles, above, and what the autoencoder makes of them, below, on one color scale"
    clean = "" if found.pearson_clean is None else f", {found.pearson_clean:.3f} with the tiles before noise was added"
    note = f"Pearson r over all pixels of all new tiles: {found.pearson:.3f}{clean}. All on one gray scale."
    return join([_image(figure, text), element("p", note, class_="note")])


def _image(figure: Figure, text: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    return element("img", src=data_uri(file.getvalue()), alt=text, style="max-width: 100%; height: auto; width: 820px")
