"""Frames of a comparison for its report, filled once more by every method: a usual one and the hardest."""

import numpy as np

from dlsia_core.classical import fill_gaps
from tasks.compare import fill_with_model
from tasks.compare_cases import CaseReader
from tasks.compare_results import Findings, JudgedCase
from tasks.devices import device_slot
from tasks.report.comparison import FilledFrame
from tasks.stage import stage_task


@stage_task("compare-pictures")
def picture_frames(found: Findings) -> list[FilledFrame]:
    """Fill the frames that the report shows; measured pixels are those of the frame."""
    chosen = [
        (case, why)
        for gaps in found.plan.directions
        for case, why in shown_cases(found.of(gaps), found.subject, found.plan.settings.shown_frames)
    ]
    return [_filled(case, why, found) for case, why in chosen]


def shown_cases(cases: list[JudgedCase], method: str, most: int) -> list[tuple[JudgedCase, str]]:
    """Some cases and why they are shown: the one in the middle of a method's L1, the hardest, and others between."""
    ordered = sorted(cases, key=lambda case: case.moments[method].scores()["l1"])
    places = {"usual": len(ordered) // 2, "hardest": len(ordered) - 1}
    words = {"usual": f"a usual frame for {method}", "hardest": f"the hardest frame for {method}"}
    found: dict[int, str] = {}
    for name in list(places)[: min(most, len(ordered))]:
        found.setdefault(places[name], words[name])
    for place in np.linspace(0, max(len(ordered) - 1, 0), 8).round().astype(int):
        if len(found) < min(most, len(ordered)):
            found.setdefault(int(place), f"frame {place + 1} of {len(ordered)} by L1 of {method}")
    return [(ordered[place], why) for place, why in sorted(found.items())]


def _filled(judged: JudgedCase, why: str, found: Findings) -> FilledFrame:
    plan, reader = found.plan, CaseReader(found.plan)
    frame = reader.case(judged.row, "horizontal" if judged.case.gaps == "horizontal" else "vertical").frame
    if frame is None:
        raise RuntimeError(f"{judged.case.frame} was judged, and cannot be read again")
    fills = {}
    with device_slot(plan.settings.device) as device:
        for model in plan.models:
            filled = fill_with_model(model, frame.shown[None], device, plan.settings.batch_size)[0]
            fills[model.label] = np.where(np.isfinite(frame.shown), frame.shown, filled)
    for method in plan.methods:
        fills[method] = fill_gaps(frame.shown, method, reader.beam(judged.row)).values
    return FilledFrame(judged.case.frame, frame.gaps, why, frame.shown, frame.truth, frame.judged, fills)
