"""Write what instances of a volume are like: lengths, directions, and the autocorrelation on a sphere (Fig. 8)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsia_core.instances import Autocorrelation, InstanceTable, ks_distance, orientations
from dlsia_core.plots.instances import plot_directions, plot_lengths, plot_on_sphere, sphere_grid
from tasks.errors import SourceError
from tasks.report.document import document, section, write_document
from tasks.report.formats import count, number
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import data_uri

TRUTH_COLUMN = "length_end_to_end_px"
LONGEST_SHOWN = 20


@dataclass(frozen=True, eq=False)
class InstanceFacts:
    """What a report tells.

    unit             of physical lengths, "" where the voxel size is not known
    autocorrelation  of the foreground that the instances were made of; None: `no_autocorrelation` says why
    truth_px         known lengths end to end in voxels, to be compared with; None: there are none
    """

    source: str
    table: InstanceTable
    unit: str = ""
    autocorrelation: Autocorrelation | None = None
    no_autocorrelation: str = ""
    truth_px: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenInstances:
    """Where the page is, its verdict, and its figures as a table artifact can hold them."""

    report: str
    verdict: str
    figures: tuple[dict[str, Any], ...]


def read_truth(path: Path, column: str = TRUTH_COLUMN) -> NDArray[np.float64]:
    """Lengths in voxels of a CSV file. Raises SourceError where the column is not there or holds no numbers."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        lengths = np.array([float(row[column]) for row in rows])
    except KeyError:
        known = ", ".join(rows[0])
        raise SourceError(f"{path} has no column {column!r}; its columns are {known}; give one of them") from None
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path} cannot be read as a table with numbers in {column!r}: {error}") from error
    if not lengths.size or not np.isfinite(lengths).all():
        raise SourceError(f"{path} holds {lengths.size} lengths in {column!r}, not all of them finite; give the truth")
    return lengths


def write_instance_report(facts: InstanceFacts, path: Path) -> WrittenInstances:
    """Write the page; the same facts give the same bytes."""
    figures = _figures(facts)
    verdict = _verdict(facts)
    written = write_document(document(f"Instances: {verdict}", [_page(facts, verdict, figures)]), path)
    return WrittenInstances(str(written), verdict, figures)


def _verdict(facts: InstanceFacts) -> str:
    found = count(len(facts.table), "instance")
    if not len(facts.table):
        return f"no instance in {facts.source}"
    said = f"{found}, median length {_with_unit(facts, float(np.median(facts.table.length)))}"
    if facts.truth_px is None:
        return said
    distance = ks_distance(facts.table.length, facts.truth_px)
    return f"{said}; Kolmogorov-Smirnov distance to {len(facts.truth_px)} known lengths {distance:.3f}"


def _with_unit(facts: InstanceFacts, voxels: float) -> str:
    """A length in voxels, and in the unit where voxels are cubes of known size."""
    text, scale = f"{number(voxels)} px", _cubic_edge(facts)
    return text if scale is None else f"{text} ({number(voxels * scale)} {facts.unit})"


def _cubic_edge(facts: InstanceFacts) -> float | None:
    """Edge of a voxel, None where it is not known or not the same along all directions."""
    if facts.table.length_physical is None or not len(facts.table):
        return None
    ratios = facts.table.length_physical / facts.table.length
    return float(ratios[0]) if np.allclose(ratios, ratios[0], rtol=1e-9) else None


def _figures(facts: InstanceFacts) -> tuple[dict[str, Any], ...]:
    """Rows of name, value and unit: what the page and the table artifact tell in numbers."""
    found = facts.table
    rows: list[dict[str, Any]] = [{"figure": "instances", "value": len(found), "unit": ""}]
    if not len(found):
        return tuple(rows)
    quartiles = np.quantile(found.length, [0.25, 0.5, 0.75])
    for name, value in zip(
        ("lower quartile of length", "median length", "upper quartile of length"), quartiles, strict=True
    ):
        rows.append({"figure": name, "value": round(float(value), 3), "unit": "px"})
    rows.append({"figure": "longest", "value": round(float(found.length.max()), 3), "unit": "px"})
    rows.append({"figure": "median volume", "value": float(np.median(found.voxels)), "unit": "voxels"})
    if facts.truth_px is not None:
        distance = ks_distance(found.length, facts.truth_px)
        rows.append({"figure": "Kolmogorov-Smirnov distance of lengths", "value": round(distance, 4), "unit": ""})
        rows.append({"figure": "known lengths", "value": len(facts.truth_px), "unit": ""})
    if found.direction.any():
        lie = orientations(found.direction)
        mean = ", ".join(f"{value:.2f}" for value in lie.mean)
        rows.append({"figure": "mean direction (z, y, x)", "value": mean, "unit": ""})
        rows.append({"figure": "order (0 none, 1 parallel)", "value": round(lie.order, 4), "unit": ""})
    if facts.autocorrelation is not None:
        share = round(100 * facts.autocorrelation.fraction, 4)
        rows.append({"figure": "foreground", "value": share, "unit": "% of the volume"})
    return tuple(rows)


def _page(facts: InstanceFacts, verdict: str, figures: Sequence[dict[str, Any]]) -> Markup:
    remarks = element("ul", *(element("li", text) for text in facts.remarks), class_="warnings attention")
    head = element(
        "header",
        element("h1", "Instances of a volume"),
        element("p", verdict, class_="text"),
        element("dl", element("dt", "Source"), element("dd", facts.source), class_="facts"),
    )
    parts = [section("figures", "In numbers", _numbers(figures))]
    if len(facts.table):
        parts.append(section("lengths", "Lengths", _lengths(facts)))
        parts.append(section("directions", "Directions", _directions(facts)))
    parts.append(section("autocorrelation", "Autocorrelation on a sphere", _sphere(facts)))
    if len(facts.table):
        parts.append(section("longest", "Longest instances", _longest(facts)))
    return element("main", head, remarks if facts.remarks else "", *parts)


def _numbers(figures: Sequence[dict[str, Any]]) -> Markup:
    rows = [
        (row["figure"], row["value"] if isinstance(row["value"], str) else number(row["value"], 4), row["unit"])
        for row in figures
    ]
    return table("All instances together", (("figure", ""), ("value", "number"), ("unit", "")), rows)


def _lengths(facts: InstanceFacts) -> Markup:
    scale = _cubic_edge(facts) or 1.0
    truth = None if facts.truth_px is None else facts.truth_px * scale
    figure = plot_lengths(facts.table.length * scale, truth, facts.unit if _cubic_edge(facts) else "px")
    note = (
        "A length is measured end to end along the longest axis, between the places where the cross-section is half of "
        "what it is around the median voxel. Of instances that the border of the volume cuts, what is inside counts."
    )
    return join(
        [_image(figure, "Left, histogram of lengths; right, their cumulative share"), element("p", note, class_="note")]
    )


def _directions(facts: InstanceFacts) -> Markup:
    if not facts.table.direction.any():
        return element("p", "No instance has a longest axis.")
    note = (
        "Longest axis of each instance, drawn at both of its ends. z is at the poles, x in the middle. The projection "
        "keeps areas: equal crowds are equal shares."
    )
    return join(
        [
            _image(plot_directions(facts.table.direction), "Directions of instances on a sphere"),
            element("p", note, class_="note"),
        ]
    )


def _sphere(facts: InstanceFacts) -> Markup:
    if facts.autocorrelation is None:
        return element("p", f"None: {facts.no_autocorrelation}.")
    longitude, latitude = sphere_grid()
    values = facts.autocorrelation.on_sphere(*np.meshgrid(longitude, latitude))
    radius = facts.autocorrelation.radius
    figure = plot_on_sphere(longitude, latitude, values, f"autocorrelation at {radius} px")
    note = (
        f"How much likelier than by chance a voxel is foreground if one {radius} voxels away in that direction is: 0, "
        "no likelier; 1, always. Bright directions are those in which many instances go on."
    )
    text = "Autocorrelation of the foreground on a sphere, Hammer-Aitoff projection"
    return join([_image(figure, text), element("p", note, class_="note")])


def _longest(facts: InstanceFacts) -> Markup:
    found = facts.table
    columns = [
        ("instance", ""),
        ("length (px)", "number"),
        ("voxels", "number"),
        ("center z, y, x (px)", "number"),
        ("direction z, y, x", "number"),
    ]
    physical = found.length_physical
    if physical is not None:
        columns.insert(2, (f"length ({facts.unit})", "number"))
    rows = []
    for row in np.argsort(-found.length, kind="stable")[:LONGEST_SHOWN]:
        center = ", ".join(f"{value:.0f}" for value in found.centroid[row])
        direction = ", ".join(f"{value:.2f}" for value in found.direction[row])
        cells = [str(found.ids[row]), number(float(found.length[row]), 4), f"{found.voxels[row]:,}", center, direction]
        if physical is not None:
            cells.insert(2, number(float(physical[row]), 4))
        rows.append(cells)
    shown = min(LONGEST_SHOWN, len(found))
    return table(f"{shown} of {len(found):,}; the table beside the store has all", columns, rows)


def _image(figure: Figure, text: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    return element("img", src=data_uri(file.getvalue()), alt=text, style="max-width: 100%; height: auto; width: 820px")
