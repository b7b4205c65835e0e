"""How far a model can be trusted, found out at the end of its training and stored in it: errors, familiar frames."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlsia_core.familiarity import FEWEST_FRAMES, Familiarity, FamiliaritySettings, fit_familiarity
from dlsia_core.inpainting_uncertainty import InpaintingUncertainty
from dlsia_core.uncertainty_calibration import UncertaintySettings, calibrate_uncertainty
from tasks.held_out import TrainedNetwork, spread
from tasks.logs import logger_of
from tasks.models import ModelRef, network_of
from tasks.normalized_frames import NormalizedFrames

FloatArray = npt.NDArray[np.float32]
CALIBRATION_FRAMES = 16
"""Frames on which a scan's own model is calibrated: a few seconds beside a minute of training."""
FAMILIAR_FRAMES = 256
UNKNOWN = "the model was trained by an earlier version, which did not measure it; train it again"


def uncertainty_part(trained: TrainedNetwork) -> dict[str, Any]:
    """The calibrated error of a model for the registry, on the frames that its split holds out."""
    split = trained.split
    held_out = sorted({*split.validation, *split.test}) if split.holds_out else []
    return uncertainty_facts(trained.frames, held_out, trained.judged_frames, trained.fill, trained.seed)


def familiarity_part(trained: TrainedNetwork) -> dict[str, Any]:
    """What is familiar to a model for the registry."""
    return familiarity_facts(trained.frames, trained.seed)


def uncertainty_facts(
    frames: NormalizedFrames,
    held_out: Sequence[int],
    most: int,
    fill: Callable[[FloatArray], FloatArray],
    seed: int,
) -> dict[str, Any]:
    """What a model's description says of its errors; a function of its arguments alone.

    held_out: frames that no weight was learned from, of which at most so many are used, evenly over them. fill: from a
    frame (row, column) with NaN to predictions for all its pixels.
    """
    started = time.monotonic()
    shown = (frames.read(number) for number in (spread(list(held_out), most) if held_out else ()))
    found = calibrate_uncertainty(shown, fill, UncertaintySettings(seed=seed))
    logger_of(__name__).info("%s (%.1f s)", found.statement, time.monotonic() - started)
    return found.to_dict()


def familiarity_facts(frames: NormalizedFrames, seed: int) -> dict[str, Any]:
    """What a model's description says of the frames that it was trained or judged on, or why it says nothing."""
    if frames.n_frames < FEWEST_FRAMES:
        return {"reason": f"the model was trained on {frames.n_frames} frames; {FEWEST_FRAMES} tell what is usual"}
    numbers = spread(list(range(frames.n_frames)), FAMILIAR_FRAMES)
    return fit_familiarity((frames.read(number) for number in numbers), FamiliaritySettings(seed=seed)).to_dict()


def uncertainty_in(facts: Mapping[str, Any]) -> InpaintingUncertainty:
    """How wrong a model's fillings may be, from its description; not `calibrated`, with the reason, if nobody knows."""
    stored = facts.get("uncertainty")
    return InpaintingUncertainty(0.9, 0, reason=UNKNOWN) if stored is None else InpaintingUncertainty.from_dict(stored)


def uncertainty_of(model: ModelRef) -> InpaintingUncertainty:
    """The same for a model in a folder."""
    return uncertainty_in(network_of(model)[1])


def familiarity_in(facts: Mapping[str, Any]) -> tuple[Familiarity | None, str]:
    """What is familiar to a model, from its description; None, and the reason, where nobody knows."""
    stored = facts.get("familiarity", {"reason": UNKNOWN})
    return (None, stored["reason"]) if "reason" in stored else (Familiarity.from_dict(stored), "")


def familiarity_of(model: ModelRef) -> tuple[Familiarity | None, str]:
    """The same for a model in a folder."""
    return familiarity_in(network_of(model)[1])
