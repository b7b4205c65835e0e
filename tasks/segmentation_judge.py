"""Put trained networks together, calibrate and judge them on held-out labels, and write the model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dlsia_core.conformal import SetCalibration
from dlsia_core.conformal.quantile import fewest_units
from dlsia_core.networks import Ensemble, count_parameters, load_network
from dlsia_core.networks.storage import write_atomically
from dlsia_core.segmentation import answer_tiles
from dlsia_core.segmentation.judged import (
    JudgedPixels,
    calibrated_sets,
    class_scores,
    fewest_blocks,
    left_out_coverage,
    matrix_of,
)
from tasks.devices import device_slot
from tasks.learning import finished_model
from tasks.models import ModelRef
from tasks.report.segmentation_page import write_segmentation_page
from tasks.segmentation_learning import Learning
from tasks.segmentation_model import save_segmentation
from tasks.segmentation_pictures import pictures_of
from tasks.stage import stage_task


@stage_task("judge-segmenter")
def judge_networks(learning: Learning, networks: Sequence[ModelRef], work: Path, name: str) -> ModelRef:
    """Write model, figures and report of the trained networks to `work`, or find them there."""
    if found := finished_model(work):
        return found
    loaded = [load_network(network.folder) for network in networks]
    model = Ensemble([network for network, _ in loaded]) if len(loaded) > 1 else loaded[0][0]
    with device_slot(learning.plan.given.device) as device:
        test = judged_pixels(learning, model, device)
        pictures = pictures_of(learning, model, device)
    calibration, conformal = _calibrated(learning, test)
    facts = {
        "trained_on": learning.facts,
        "plan": learning.plan.identity,
        "origin": {"digest": learning.digest},
        "curves": [facts["curve"] for _, facts in loaded],
        "parameters": [count_parameters(network) for network, _ in loaded],
        "scores": class_scores(test, learning.labels.names) if len(test.truth) else [],
        "confusion": matrix_of(test).tolist() if len(test.truth) else [],
        "judged_pixels": {"judged": len(test.truth), "all": learning.split.pixels["test"]},
        "sets": conformal,
    }
    efforts = [json.loads((Path(network.folder) / "effort.json").read_text()) for network in networks]
    effort = {"seconds": round(sum(e["seconds"] for e in efforts), 1), "device": efforts[0]["device"]}
    effort |= {"torch": torch.__version__}
    write_atomically(work / "training.json", json.dumps(effort, indent=2, sort_keys=True).encode())
    write_segmentation_page(work / "report.html", name, facts, effort, pictures)
    return save_segmentation(work, model, learning.recipe, calibration, facts)


def judged_pixels(learning: Learning, network: nn.Module, device: torch.device) -> JudgedPixels:
    """Answers for the labelled pixels of the test set, tile by tile as in use."""
    parts: list[JudgedPixels] = []
    where = learning.split.where("test")
    for window in learning.judged:
        answer = answer_tiles(network, learning.recipe, learning.read(window)[None], device)
        mean, std = (values[0][:, *learning.recipe.answered(window)] for values in (answer.mean, answer.std))
        here = where[window.inner]
        label, unit = learning.labels.label[window.inner][here], learning.split.unit[window.inner][here]
        parts.append(JudgedPixels(mean[:, here].T, std[:, here].T, label, unit))
    return _joined(parts, len(learning.labels.names))


def _joined(parts: list[JudgedPixels], classes: int) -> JudgedPixels:
    none = JudgedPixels(
        np.empty((0, classes), np.float32), np.empty((0, classes), np.float32), np.empty(0, np.uint8),
        np.empty(0, np.int64),
    )  # fmt: skip
    parts = [none, *parts]
    return JudgedPixels(
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.std for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.unit for part in parts]),
    )


def _calibrated(learning: Learning, held_out: JudgedPixels) -> tuple[SetCalibration | str, dict[str, Any]]:
    """The calibration of sets and what was found of it; a reason where blocks are too few for one."""
    coverage, names = learning.plan.given.coverage, learning.labels.names
    if coverage is None:
        return (reason := "training.coverage is empty"), {"reason": reason}
    if not len(held_out.truth):
        reason = " ".join(learning.split.notes) or "no labels are held out for it"
        return reason, {"reason": reason}
    fewest, blocks = fewest_blocks(held_out)
    if blocks < (needed := fewest_units(coverage)):
        reason = (
            f"class {names[fewest]!r} is in {blocks} held-out blocks, and {coverage:.0%} needs {needed}; label more "
            "regions, or take smaller blocks"
        )
        return reason, {"reason": reason}
    calibration = calibrated_sets(held_out, coverage, learning.plan.given.seed)
    found = left_out_coverage(held_out, coverage, names, learning.plan.given.seed)
    return calibration, {"statement": calibration.statement, **found}
