"""Sets of classes that contain the true class of a pixel as often as promised."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsia_core.conformal.left_out import pooled_threshold
from dlsia_core.conformal.quantile import (
    Threshold,
    Units,
    draw_from_units,
    fewest_units,
    hierarchical_threshold,
    unit_of_pixels,
)
from dlsia_core.conformal.scores import METHODS, class_scores
from dlsia_core.errors import ArrayError, SettingError
from dlsia_core.metrics.confusion import IGNORE, counted_pixels, require_classes

logger = logging.getLogger(__name__)
CALIBRATING, PREDICTING = 0, 1  # streams of random numbers that must differ


@dataclass(frozen=True)
class SetSettings:
    """Settings of `calibrate_sets`.

    coverage: promised probability that a set contains the true class, in (0, 1).
    method: "threshold" (smallest sets on average) or "adaptive" (larger sets where the network is unsure); see
        `class_scores`.
    per_class: True = the promise holds for the pixels of each true class, not only for all together: what a rare class
        needs. Each class has its own threshold (Angelopoulos & Bates 2021, §4.2).
    randomized: of the adaptive method: smaller sets by a random number for each pixel.
    nonempty: the most likely class is always in the set; it makes sets larger only, so the promise holds.
    pooled: True = the promise is for a pixel drawn from all pixels of new units, on average, and not guaranteed (see
        `pooled_threshold`); False = for a pixel of a unit drawn first, guaranteed, and often exceeded.
    pixels_per_unit: calibrate on so many random pixels of each unit; None = on all.
    seed: of the random numbers.
    """

    coverage: float = 0.9
    method: str = "threshold"
    per_class: bool = False
    randomized: bool = False
    nonempty: bool = True
    pooled: bool = False
    pixels_per_unit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("coverage", 0 < self.coverage < 1, "between 0 and 1, e.g. 0.9"),
            ("method", self.method in METHODS, f"one of {', '.join(METHODS)}"),
            ("randomized", not self.randomized or self.method == "adaptive", "False unless the method is adaptive"),
            ("pooled", not self.pooled or self.pixels_per_unit is None, "False with pixels_per_unit: all count alike"),
            ("pixels_per_unit", self.pixels_per_unit is None or self.pixels_per_unit >= 1, "at least 1, or None"),
            ("seed", self.seed >= 0, "at least 0"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")


@dataclass(frozen=True)
class SetCalibration:
    """Thresholds of the classes, with all that is needed to make sets; kept as JSON beside the network.

    thresholds: one per class (per_class), else a single one.
    """

    settings: SetSettings
    classes: int
    thresholds: tuple[Threshold, ...]

    def sets(self, logits: Sequence[NDArray[np.floating]], frames: Sequence[int] | None = None) -> NDArray[np.bool_]:
        """Which classes are in the set of each pixel, (frame, class, ...) bool; two classes for one logit channel.

        logits: (frame, class, ...), or a sequence of frames. frames: the number of each frame, which decides its random
        numbers (randomized only), so that a frame's sets do not depend on its batch; None = 0, 1, ...
        """
        numbers = range(len(logits)) if frames is None else frames
        if len(numbers) != len(logits):
            raise ArrayError(f"{len(logits)} frames of logits and {len(numbers)} frame numbers; wanted as many")
        limits = np.array([t.value for t in self.thresholds])
        sets = []
        for number, frame in zip(numbers, logits, strict=True):
            frame = _require_channels(np.asarray(frame), self.classes)
            scores = class_scores(frame, self.settings.method, _uniform(self.settings, PREDICTING, number, frame))
            inside = scores <= limits.reshape(-1, *(1,) * (scores.ndim - 1))
            if self.settings.nonempty:
                np.put_along_axis(inside, _most_likely(frame)[None], True, axis=0)
            sets.append(inside)
        return np.stack(sets)

    @property
    def statement(self) -> str:
        """What is promised, on what grounds, and where it says nothing; one sentence for each."""
        one = len(self.thresholds) == 1
        names = ["all classes"] if one else [f"class {c}" for c in range(self.classes)]
        often, each = f"{self.settings.coverage:g}", "" if one else ", for each true class"
        lines = [
            f"Sets contain the true class of {often} of the pixels of new units{each}, if these are like those of the "
            "calibration; this is found by leaving out units, and not guaranteed."
            if self.settings.pooled
            else f"Sets contain the true class of a random pixel of a new unit with a probability of at least {often}"
            f"{each}, on average over calibrations."
        ]
        needed = fewest_units(self.settings.coverage)
        for name, threshold in zip(names, self.thresholds, strict=True):
            said = "every class is" if one else f"{name} is"
            grounds = f"{name}: calibrated on {threshold.pixels} pixels of {threshold.units} units"
            if threshold.units < needed:
                grounds += f", fewer than the {needed} units this needs, so {said} in every set"
            elif math.isinf(threshold.value):
                grounds += f", too many of them with the probability 0 for their class, so {said} in every set"
            lines.append(grounds + ".")
        return " ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, e.g. for the metadata of `save_network`."""
        thresholds = [threshold.to_dict() for threshold in self.thresholds]
        return {"kind": "sets", "settings": asdict(self.settings), "classes": self.classes, "thresholds": thresholds}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "SetCalibration":
        """The inverse of `to_dict`. Raises SettingError for a dictionary of another kind."""
        if facts.get("kind") != "sets":
            raise SettingError(f"this is a calibration of kind {facts.get('kind')!r}; wanted 'sets'")
        thresholds = tuple(Threshold.from_dict(threshold) for threshold in facts["thresholds"])
        return cls(SetSettings(**facts["settings"]), facts["classes"], thresholds)


def calibrate_sets(
    logits: Sequence[NDArray[np.floating]],
    label: NDArray[np.integer],
    settings: SetSettings,
    *,
    units: Units = "frame",
    ignore_index: int = IGNORE,
) -> SetCalibration:
    """Find thresholds on labelled frames that the network was not trained on (split conformal estimation).

    logits: (frame, class, ...) as they leave the network, one channel for a binary one, or a sequence of frames that
        are read one by one; for probabilities see `log_probabilities`.
    label: (frame, ...), integer; `ignore_index` = not labelled; for planes of 0 and 1 see `label_from_one_hot`. Which
        pixels are labelled must not depend on how well the network does there.
    units: what is exchangeable, see `unit_of_pixels` and `block_units`. Pixels of one frame resemble each other, hence
        "frame"; the promise is for a labelled pixel drawn at random from a new unit (see `hierarchical_threshold`).
    With too few units (`fewest_units`) nothing can be promised but sets of all classes; they are, and `statement` and a
    warning in the log say so.
    Raises ArrayError for arrays that do not fit each other, and for labels that are no class.

    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 3, size=(20, 8, 8)).astype(np.uint8)
    >>> logits = 2.0 * (label[:, None] == np.arange(3)[:, None, None]) + rng.normal(size=(20, 3, 8, 8))
    >>> calibration = calibrate_sets(logits, label, SetSettings(coverage=0.9))
    >>> sets = calibration.sets(logits)
    >>> sets.shape, round(float(np.take_along_axis(sets, label[:, None], 1).mean()), 2)
    ((20, 3, 8, 8), 0.95)
    """
    classes = _check_layout(logits, label)
    counted = counted_pixels(label, None, ignore_index)
    require_classes("label", label[counted], classes, ignore_index)
    truth = label[counted].astype(np.int64)
    unit = unit_of_pixels(units, label.shape)[counted]
    chosen = draw_from_units(
        unit if not settings.per_class else unit * classes + truth, settings.pixels_per_unit, settings.seed
    )
    scores = _true_scores(logits, label, counted, settings)[chosen]
    unit, truth = unit[chosen], truth[chosen]
    groups = [truth == c for c in range(classes)] if settings.per_class else [np.ones(len(truth), np.bool_)]
    rule = pooled_threshold if settings.pooled else hierarchical_threshold
    thresholds = tuple(rule(scores[g], unit[g], settings.coverage) for g in groups)
    calibration = SetCalibration(settings, classes, thresholds)
    if any(t.units < fewest_units(settings.coverage) for t in thresholds):
        logger.warning("%s", calibration.statement)
    return calibration


def _true_scores(
    logits: Sequence[NDArray[np.floating]],
    label: NDArray[np.integer],
    counted: NDArray[np.bool_],
    settings: SetSettings,
) -> NDArray[np.float64]:
    """Score of the true class of every labelled pixel, frame by frame, so that memory is bounded by one frame."""
    scores = [np.empty(0)]
    for number, (frame, truth, here) in enumerate(zip(logits, label, counted, strict=True)):
        if here.any():
            frame = np.asarray(frame)
            uniform = _uniform(settings, CALIBRATING, number, frame)
            shown = class_scores(frame[:, here], settings.method, None if uniform is None else uniform[here])
            scores.append(np.take_along_axis(shown, truth[here].astype(np.int64)[None], axis=0)[0])
    return np.concatenate(scores)


def _uniform(
    settings: SetSettings, stream: int, number: int, frame: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    if not settings.randomized:
        return None
    return np.random.default_rng((settings.seed, stream, number)).random(frame.shape[1:])


def _most_likely(frame: NDArray[np.floating]) -> NDArray[np.int64]:
    return np.asarray(frame[0] > 0 if len(frame) == 1 else frame.argmax(axis=0), dtype=np.int64)


def _require_channels(frame: NDArray[np.floating], classes: int) -> NDArray[np.floating]:
    if frame.ndim < 1 or (len(frame) != classes and not (len(frame) == 1 and classes == 2)):
        raise ArrayError(f"logits of a frame have shape {frame.shape}; wanted ({classes}, ...)")
    return frame


def _check_layout(logits: Sequence[NDArray[np.floating]], label: NDArray[np.integer]) -> int:
    """Number of classes. Raises ArrayError where the label is no integer for each pixel of the logits."""
    if not len(logits) or np.ndim(logits[0]) < 1:
        raise ArrayError("there are no logits; wanted (frame, class, ...)")
    channels, *pixels = np.shape(logits[0])
    wanted = (len(logits), *pixels)
    if label.shape != wanted:
        hint = ""
        if label.ndim == len(wanted) + 1:
            hint = (
                "; give label[:, 0]" if label.shape[1] == 1 else "; label_from_one_hot turns planes of 0 and 1 into it"
            )
        raise ArrayError(f"label has shape {label.shape}; wanted {wanted}, a whole number for each pixel{hint}")
    return max(int(channels), 2)
