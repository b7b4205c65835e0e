"""Write what a sweep found: sweep.csv, and a page with the table and the curves of all members."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from dlsia_core.networks.storage import write_atomically
from dlsia_core.plots.style import class_colors, new_figure
from tasks.report.document import document, section, write_document
from tasks.report.formats import NONE, duration, number
from tasks.report.markup import Markup, element, join, table
from tasks.report.pixels import data_uri
from tasks.sweep_member import FAILED, FINISHED, STOPPED, MemberRecord, SweepResult

COLUMNS = (
    "member", "network", "settings", "parameters", "epochs", "best_epoch", "l1", "pearson_r", "l1_over_linear",
    "seconds", "state", "gaps", "validation_loss", "reason", "model",
)  # fmt: skip


@dataclass(frozen=True)
class WrittenSweep:
    """Where table and report are, and the rows as JSON can hold them."""

    results: str
    report: str
    table: tuple[dict[str, Any], ...]
    verdict: str


def write_sweep(folder: Path, title: str, source: str, found: SweepResult, remarks: Sequence[str]) -> WrittenSweep:
    """Write both; the same result gives the same bytes."""
    rows = tuple(_row(record) for record in found.records)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "settings": json.dumps(row["settings"], sort_keys=True)})
    results = folder / "sweep.csv"
    write_atomically(results, text.getvalue().encode())
    verdict = _verdict(found)
    page = document(f"Sweep: {verdict}", [_page(title, source, verdict, found, remarks)])
    return WrittenSweep(str(results), str(write_document(page, folder / "report.html")), rows, verdict)


def _row(record: MemberRecord) -> dict[str, Any]:
    facts = record.model_dump(mode="json")
    best = min(record.losses, default=None)
    return {**{key: facts[key] for key in COLUMNS if key in facts}, "validation_loss": best}


def _verdict(found: SweepResult) -> str:
    states = ", ".join(f"{found.count(state)} {state}" for state in (FINISHED, STOPPED, FAILED) if found.count(state))
    if (best := found.best) is None or best.l1 is None:
        return f"no member was finished and judged; {states}"
    ratio = "" if best.l1_over_linear is None else f", {best.l1_over_linear:.3f} of linear interpolation's"
    return f"best is member {best.member} ({best.network}), L1 {1e3 * best.l1:.3f}e-3{ratio}; {states}"


def _page(title: str, source: str, verdict: str, found: SweepResult, remarks: Sequence[str]) -> Markup:
    head = element(
        "header",
        element("h1", f"Sweep of {title}"),
        element("p", verdict),
        element("dl", join([element("dt", "Source"), element("dd", source)]), class_="facts"),
    )
    warnings = element("ul", *(element("li", text) for text in remarks), class_="warnings attention")
    return element(
        "main",
        head,
        warnings if remarks else "",
        section("members", "Members", _table(found)),
        section("curves", "Validation losses", _curves(found.records)),
    )


def _table(found: SweepResult) -> Markup:
    columns = (
        ("member", "nowrap"), ("network", "nowrap"), ("settings", ""), ("weights", "number"), ("epochs", "number"),
        ("best", "number"), ("L1 (10⁻³)", "number"), ("Pearson r", "number"), ("L1 over linear", "number"),
        ("validation loss", "number"), ("time", "number"), ("state", "nowrap"),
    )  # fmt: skip
    rows = [_cells(record, record is found.best) for record in found.records]
    note = (
        "L1, Pearson r and the ratio to linear interpolation are those of the finished network on artificial gaps in "
        "frames that no member was trained on, the same for all. Stopped members were not judged; their validation "
        "loss is the best until they were stopped."
    )
    why = [element("li", f"{r.member}: {r.state}, {r.reason}") for r in found.records if r.reason]
    made = table("In the order of training; the least L1 is bold", columns, rows)
    return join([made, element("ul", *why) if why else "", element("p", note)])


def _cells(record: MemberRecord, best: bool) -> tuple[str, ...]:
    settings = ", ".join(f"{key} {value}" for key, value in _flat(record.settings).items())
    l1 = NONE if record.l1 is None else f"{1e3 * record.l1:.3f}"
    weights = NONE if record.parameters is None else f"{record.parameters:,}"
    return (
        record.member, record.network, settings, weights, str(record.epochs),
        NONE if record.best_epoch is None else str(record.best_epoch + 1),
        element("strong", l1) if best else l1,
        NONE if record.pearson_r is None else f"{record.pearson_r:.4f}", number(record.l1_over_linear),
        number(min(record.losses, default=None)), duration(record.seconds), record.state,
    )  # fmt: skip


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner = settings.get("network_settings", {})
    return {**inner, **{key: value for key, value in settings.items() if key != "network_settings"}}


def _curves(records: Sequence[MemberRecord]) -> Markup:
    drawn = [record for record in records if record.losses]
    if not drawn:
        return element("p", "No member has finished an epoch.")
    figure, (axes,) = new_figure(1, panel=(6.0, 3.4))
    colors = class_colors(7)
    for place, record in enumerate(drawn):
        style = "-" if record.state == FINISHED else ":"
        epochs = range(1, len(record.losses) + 1)
        label = f"{record.member}{'' if record.state == FINISHED else f' ({record.state})'}"
        axes.plot(epochs, record.losses, style, marker=".", color=colors[place % 7], label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("validation loss")
    if min(min(record.losses) for record in drawn) > 0:
        axes.set_yscale("log")
    axes.legend(fontsize=7, frameon=False, ncols=2)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    text = "Validation loss of each member over its epochs"
    return element("img", src=data_uri(file.getvalue()), alt=text, style="max-width: 100%; height: auto")
