"""The page of a model that segments: figures by class, what its sets hold, losses, and pictures of held-out regions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tasks.report.content import LossCurve
from tasks.report.curves import curve_section
from tasks.report.document import document, section, write_document
from tasks.report.formats import NONE, number
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import data_uri
from tasks.report.style import PRINT_SCRIPT

SHOWN = ("f1", "iou", "precision", "recall")


class Picture(Protocol):
    """A drawing with a caption."""

    @property
    def caption(self) -> str: ...

    @property
    def png(self) -> bytes: ...


def write_segmentation_page(
    path: Path, name: str, facts: Mapping[str, Any], effort: Mapping[str, Any], pictures: Sequence[Picture]
) -> Path:
    """Write the page whole or not at all. facts: the description in model.json; effort: what the training took."""
    sections = [
        ("quality", "How good it is", _quality(facts)),
        ("sets", "How sure it is", _sets(facts["sets"])),
        ("pictures", "Held-out regions", join([_figure(picture) for picture in pictures])),
        ("curves", "Training", join([curve_section(LossCurve(**curve)) for curve in facts["curves"]])),
    ]
    pairs = [join([element("dt", key), element("dd", text)]) for key, text in segmentation_facts(facts, effort).items()]
    head = element("header", element("h1", f"Model {name}"), element("dl", *pairs, class_="facts"))
    main = element("main", head, *(section(*parts) for parts in sections if parts[2]))
    return write_document(document(f"Model {name}", [main], [PRINT_SCRIPT]), path)


def segmentation_facts(facts: Mapping[str, Any], effort: Mapping[str, Any]) -> dict[str, str]:
    """What a model was trained on and how, in words."""
    trained, plan, sizes = facts["trained_on"], facts["plan"], facts["parameters"]
    many = f"{len(sizes)} networks of {min(sizes):,} to {max(sizes):,} weights"
    pixels = trained["pixels"]
    found = {
        "Images": f"{trained['images']}, {' x '.join(map(str, trained['shape']))} {trained['dtype']}",
        "Labelled pixels": ", ".join(f"{name} {count:,}" for name, count in trained["labelled"].items()),
        "Shared out": ", ".join(f"{name} {count:,}" for name, count in pixels.items())
        + f" px, in blocks of {trained['block_px']} px, {trained['guard_px']} px apart",
        "Network": f"{plan['network']}: {many if len(sizes) > 1 else f'{sizes[0]:,} weights'}",
        "Took": f"{effort['seconds']} s on {effort['device']}",
    }
    if rings := trained.get("rings"):
        y, x = rings["center"]
        found["Rings"] = f"taken out, about the axis at row {y:g}, column {x:g} (median of {rings['width']} px)"
    return found | ({"Note": " ".join(trained["notes"])} if trained["notes"] else {})


def coverage_words(sets: Mapping[str, Any]) -> str:
    """One sentence on the sets: what was promised and found, or why there are none."""
    if "reason" in sets:
        return f"There are no conformal sets: {sets['reason']}."
    found = [f"{row['class']} {row['coverage']:.1%}" for row in sets.get("classes", ())]
    if not found:
        return "Conformal sets are calibrated, on labels in too few blocks to measure them on any that are left out."
    return (
        f"Conformal sets promise {sets['promised']:.0%} of each class; found on tenths of the held-out blocks, each "
        f"with thresholds from the others: {', '.join(found)}. A set may be empty: the pixel is unlike what the model "
        "knows of any class."
    )


def _quality(facts: Mapping[str, Any]) -> Markup:
    if not facts["scores"]:
        return element("p", "Not measured: no labels are held out.")
    columns = [("class", ""), *((key, "number") for key in ("pixels", "blocks", *SHOWN))]
    rows = [
        [row["class"], number(row["pixels"]), number(row["blocks"]), *(interval(row, key) for key in SHOWN)]
        for row in facts["scores"]
    ]
    return table("On blocks that it was not trained on; in brackets 95 % intervals over blocks", columns, rows)


def interval(row: Mapping[str, Any], score: str) -> str:
    """A score with its interval.

    >>> interval({"f1": 0.91234, "f1_low": 0.9, "f1_high": 0.92}, "f1"), interval({"iou": None}, "iou")
    ('0.912 (0.900 to 0.920)', '–')
    """
    if row[score] is None:
        return NONE
    low, high = row[f"{score}_low"], row[f"{score}_high"]
    return f"{row[score]:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")


def _sets(sets: Mapping[str, Any]) -> Markup:
    said = element("p", coverage_words(sets))
    if not sets.get("classes"):
        return said
    columns = [("class", ""), ("found", "number"), ("interval over blocks", "number"), ("blocks", "number")]
    rows = [
        [
            row["class"],
            f"{row['coverage']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            str(row["blocks"]),
        ]
        for row in sets["classes"]
    ]
    shares = ", ".join(
        f"{share:.1%} hold {size} class{'' if size == 1 else 'es'}"
        for size, share in enumerate(sets["size_shares"])
        if share
    )
    return join(
        [
            said,
            table("Share of pixels whose set holds their class", columns, rows),
            element("p", f"Of the sets, {shares}."),
        ]
    )


def _figure(picture: Picture) -> Markup:
    image = element(
        "img", src=data_uri(picture.png), alt=f"Image, label, prediction and probability of {picture.caption}"
    )
    return element("figure", image, element("figcaption", picture.caption))
