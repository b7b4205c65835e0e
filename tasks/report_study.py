"""Write what a study of latent spaces found: tables, and a page with Fig. 10 of Chavez et al. 2022."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.metrics import Interval
from dlsia_core.neighbor_study import (
    correlation_by_rank,
    kept_share,
    mean_difference,
    nearest_neighbors,
    usable_neighbors,
)
from dlsia_core.networks.storage import write_atomically
from dlsia_core.plots.neighbors import plot_neighbors
from tasks.report.document import document, section, write_document
from tasks.report.formats import NONE
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import data_uri
from tasks.study_frames import MASKED, TRUTH, StudiedFrames, Study

FloatArray = npt.NDArray[np.float64]
COLUMNS = (
    "space", "n_frames", "neighbors", "latent", "mean_correlation", "kept", "kept_low", "kept_high", "more_than_masked",
    "more_low", "more_high", "by_chance",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class StudyFindings:
    """curves: mean correlation (rank,) by latent space. kept: (frame,) by latent space but for the truth's.

    shares, more: means of `kept`, and of their differences to the masked frames', with intervals.
    """

    n_neighbors: int
    curves: Mapping[str, FloatArray]
    kept: Mapping[str, FloatArray]
    shares: Mapping[str, Interval]
    more: Mapping[str, Interval]
    chance: float


def study_findings(study: Study, frames: StudiedFrames, latent: Mapping[str, npt.NDArray[np.float32]]) -> StudyFindings:
    """Neighbors in all spaces. Raises ArrayError for fewer than three frames."""
    settings, n_frames = study.settings, len(frames.rows)
    n_neighbors = usable_neighbors(settings.neighbors, n_frames)
    near = {space: nearest_neighbors(vectors, n_neighbors) for space, vectors in latent.items()}
    kept = {space: kept_share(found, near[TRUTH]) for space, found in near.items() if space != TRUTH}
    how: dict[str, Any] = {
        "seed": settings.seed, "confidence": settings.confidence, "resamples": settings.resamples
    }  # fmt: skip
    return StudyFindings(
        n_neighbors,
        {space: correlation_by_rank(frames.correlations, found) for space, found in near.items()},
        kept,
        {space: mean_difference(share, np.zeros_like(share), **how) for space, share in kept.items()},
        {space: mean_difference(kept[space], kept[MASKED], **how) for space in study.fills},
        n_neighbors / (n_frames - 1),
    )


@dataclass(frozen=True)
class WrittenStudy:
    """Where tables and report are, and the rows as JSON can hold them."""

    results: str
    report: str
    table: tuple[dict[str, Any], ...]
    verdict: str


def write_study(
    study: Study, source: str, frames: StudiedFrames, found: StudyFindings, remarks: Sequence[str]
) -> WrittenStudy:
    """Write neighbors.csv, curves.csv, frames.csv and report.html; the same findings give the same bytes."""
    folder = study.comparison.folder
    rows = tuple(_row(study, space, len(frames.rows), found) for space in study.spaces)
    _write_csv(folder / "neighbors.csv", COLUMNS, (row.values() for row in rows))
    ranks = ((space, rank, value) for space, curve in found.curves.items() for rank, value in enumerate(curve, 1))
    _write_csv(folder / "curves.csv", ("space", "rank", "mean_correlation"), ranks)
    shares = ((row, space, kept[n]) for n, row in enumerate(frames.rows) for space, kept in found.kept.items())
    _write_csv(folder / "frames.csv", ("frame", "space", "kept"), shares)
    verdict = _verdict(study, found)
    page = document(f"Latent spaces: {verdict}", [_page(study, source, verdict, rows, found, remarks)])
    report = write_document(page, folder / "report.html")
    return WrittenStudy(str(folder / "neighbors.csv"), str(report), rows, verdict)


def _row(study: Study, space: str, n_frames: int, found: StudyFindings) -> dict[str, Any]:
    share, more = found.shares.get(space), found.more.get(space)
    curve = found.curves[space]
    figures = (
        float(np.nanmean(curve)) if np.isfinite(curve).any() else None,
        *((share.estimate, share.low, share.high) if share else (None,) * 3),
        *((more.estimate, more.low, more.high) if more else (None,) * 3),
    )
    known = (None if value is None or math.isnan(value) else value for value in figures)
    values = (space, n_frames, found.n_neighbors, study.settings.encoder.latent, *known, found.chance)
    return dict(zip(COLUMNS, values, strict=True))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def _verdict(study: Study, found: StudyFindings) -> str:
    best = max(study.fills, key=lambda space: found.shares[space].estimate)
    share, masked, more = found.shares[best].estimate, found.shares[MASKED].estimate, found.more[best]
    sure = "above" if more.low > 0 else "below" if more.high < 0 else "not to be told from"
    return (
        f"{_short(best)} keeps {100 * share:.1f} % of the {found.n_neighbors} nearest neighbors, {sure} masked frames' "
        f"{100 * masked:.1f} % (difference {100 * more.estimate:+.1f}, {100 * more.low:+.1f} to {100 * more.high:+.1f})"
    )


def _short(space: str) -> str:
    """A space as pages call it: of a model's folder the end.

    >>> _short("saxs:2"), _short("/results/sweep/members/50214a3cf976/training-50214a3cf976/")
    ('saxs:2', '…/training-50214a3cf976')
    """
    return space if "/" not in space else f"…/{Path(space).name[-24:]}"


def _page(
    study: Study,
    source: str,
    verdict: str,
    rows: Sequence[Mapping[str, Any]],
    found: StudyFindings,
    remarks: Sequence[str],
) -> Markup:
    facts = join([element("dt", "Source"), element("dd", source)])
    head = element(
        "header",
        element("h1", "Neighbors in latent space"),
        element("p", verdict),
        element("dl", facts, class_="facts"),
    )
    warnings = element("ul", *(element("li", text) for text in remarks), class_="warnings attention")
    return element(
        "main",
        head,
        warnings if remarks else "",
        section("neighbors", "Curves and neighbors kept", join([_figure(found), _table(rows)])),
        section("protocol", "How it was judged", join([element("p", text) for text in _protocol(study)])),
    )


def _figure(found: StudyFindings) -> Markup:
    file = io.BytesIO()
    shorts = [_short(space) for space in found.curves]
    names = dict(zip(found.curves, shorts if len(set(shorts)) == len(shorts) else found.curves, strict=True))
    curves = {names[space]: curve for space, curve in found.curves.items()}
    figure = plot_neighbors(curves, {names[space]: kept for space, kept in found.kept.items()}, found.chance)
    figure.savefig(file, format="png", metadata={"Software": None})
    text = "Left, mean correlation against neighbor rank; right, share of the ground truth's neighbors that are kept"
    return element("img", src=data_uri(file.getvalue()), alt=text, style="max-width: 100%; height: auto")


def _table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    columns = (
        ("frames", "file"), ("mean correlation", "number"), ("neighbors kept (%)", "number"),
        ("interval", "number"), ("more than masked (%)", "number"), ("interval", "number"),
    )  # fmt: skip

    def percent(*values: float | None) -> str:
        return NONE if None in values else " to ".join(f"{100 * value:.1f}" for value in values if value is not None)

    cells = [
        (
            row["space"], NONE if row["mean_correlation"] is None else f"{row['mean_correlation']:.4f}",
            percent(row["kept"]), percent(row["kept_low"], row["kept_high"]), percent(row["more_than_masked"]),
            percent(row["more_low"], row["more_high"]),
        )
        for row in rows
    ]  # fmt: skip
    first = rows[0]
    caption = (
        f"{first['n_frames']} frames, {first['neighbors']} neighbors, {first['latent']} latent numbers; "
        f"by chance {100 * first['by_chance']:.1f} % are kept"
    )
    return table(caption, columns, cells)


def _protocol(study: Study) -> list[str]:
    truth = (
        "The ground truth is each frame with its horizontal gaps filled from the second exposure."
        if study.paired
        else "There are no second exposures: the ground truth is each frame itself, and the masked frames have "
        "artificial gaps over measured pixels, the detector's own moved to one other place for all frames."
    )
    fill = "0" if study.settings.masked_fill == "zero" else "the mean of what the frame measured"
    return [
        f"{truth} In the gaps of masked frames stands {fill}. What no exposure measured is left out of all kinds.",
        "One autoencoder for each kind of frames, of the same architecture and training, on the frames that are shown "
        "here. Neighbors are nearest by Euclidean distance of latent vectors; correlations are those of the masked "
        "frames on measured pixels, for all kinds.",
        f"Intervals: {100 * study.settings.confidence:g} %, by a bootstrap over frames. They do not hold what other "
        "weights at the start of the autoencoders would change.",
    ]
