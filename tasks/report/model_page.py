"""The page of a trained model: what it learned from, its losses, and what it does to frames it was not trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.report.content import FramePair, LossCurve
from tasks.report.curves import curve_section
from tasks.report.document import document, section, write_document
from tasks.report.formats import number
from tasks.report.markup import Markup, element, join, table
from tasks.report.pictures import picture_section
from tasks.report.style import PRINT_SCRIPT


def model_page(
    name: str, facts: Mapping[str, str], model: Mapping[str, Any], pictures: Sequence[FramePair] = ()
) -> str:
    """The page as HTML.

    facts: what is shown in the table at the top. model: the description in model.json, of which the losses ("curve")
    and the figures ("quality") are shown.
    """
    sections = [
        ("quality", "How good it is", _quality(model["quality"])),
        ("curves", "Training", curve_section(LossCurve(**model["curve"]))),
        ("pictures", "Frames it was not trained on", join([picture_section(pair) for pair in pictures])),
    ]
    pairs = [join([element("dt", key), element("dd", text)]) for key, text in facts.items()]
    head = element("header", element("h1", f"Model {name}"), element("dl", *pairs, class_="facts"))
    main = element("main", head, *(section(*parts) for parts in sections if parts[2]))
    return document(f"Model {name}", [main], [PRINT_SCRIPT])


def write_model_page(
    path: Path, name: str, facts: Mapping[str, str], model: Mapping[str, Any], pictures: Sequence[FramePair] = ()
) -> Path:
    """Write the page whole or not at all."""
    return write_document(model_page(name, facts, model, pictures), path)


def _quality(rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return element("p", "Not measured: no gaps could be hidden in the test frames.")
    columns = [(key, "" if isinstance(value, str) else "number") for key, value in rows[0].items()]
    cells = [[value if isinstance(value, str) else number(value, 4) for value in row.values()] for row in rows]
    return table("On measured pixels that were hidden from each method, in whole frames", columns, cells)
