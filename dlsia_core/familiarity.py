"""How much a frame resembles those that a model was trained on: a linear latent space, and a distance in it.

A frame becomes a short vector: means over the measured pixels of blocks, and the measured share of each block, so that
a missing module is seen as well as another sample. A principal component analysis of the training frames' vectors gives
a few directions; a frame's distance has a part along them (Mahalanobis) and one away from them (residual), as the T²
and Q charts of process control have (Jackson & Mudholkar 1979, Technometrics 21, 341).
"""

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from dlsia_core.errors import ArrayError, SettingError

FloatArray = NDArray[np.float64]
FORMAT = 1
FEWEST_FRAMES = 6
FOLDS = 5
LEAST_THRESHOLD = 2.0


@dataclass(frozen=True)
class FamiliaritySettings:
    """Settings of `fit_familiarity`.

    blocks: rows and columns of blocks into which a frame is averaged. components: of the latent space, at most; a
    quarter of the frames where there are fewer. tolerance: difference of a block, in normalized units or as a share of
    its pixels, that is of no consequence (0.01 is 15 % of the counts on the default scale): frames that all look the
    same would else make a stranger of the next one. flagged: share of frames like the training frames that are marked.
    seed: of the folds.
    """

    blocks: tuple[int, int] = (24, 24)
    components: int = 16
    tolerance: float = 0.01
    flagged: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("blocks", len(self.blocks) == 2 and min(self.blocks) >= 1, "two whole numbers of at least 1"),
            ("components", self.components >= 1, "at least 1"),
            ("tolerance", 0 < self.tolerance < math.inf, "greater than 0"),
            ("flagged", 0 < self.flagged < 0.5, "between 0 and 0.5"),
            ("seed", self.seed >= 0, "at least 0"),
        )
        for name, allowed, wanted in checks:
            if not allowed:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")


@dataclass(frozen=True, eq=False)
class Familiarity:
    """A latent space of training frames, and what is typical in it; kept as JSON with the model.

    level: (2 feature,) float32, means of the blocks' values, then of their measured shares. axes: (component,
    2 feature) float32, orthonormal. variances: (component,), of the training frames along them. residual: squared
    length away from the axes that is taken as one. typical: medians, over frames that were left out, of the two parts,
    or what is tolerated. threshold: distance above which a frame is unfamiliar. frames: fitted on so many.
    """

    blocks: tuple[int, int]
    level: NDArray[np.float32]
    axes: NDArray[np.float32]
    variances: tuple[float, ...]
    residual: float
    typical: tuple[float, float]
    threshold: float
    frames: int

    def distance(self, frames: NDArray[np.floating]) -> NDArray[np.float32]:
        """Distances (frame,) float32 of frames (frame, row, column) with NaN: about 1 = a typical frame of this kind.

        Less where frames resemble each other more closely than matters. The distance depends on the frame alone. Frames
        of any size have one, also without measured pixels.
        """
        parts = self._parts(_blocks(frames, self.blocks)) / np.asarray(self.typical)
        return np.asarray(np.sqrt(parts.max(axis=1)), np.float32)

    def unfamiliar(self, distance: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of the distances mark a frame unlike the training frames: (frame,) bool."""
        return np.asarray(distance > np.float32(self.threshold))

    def _parts(self, blocks: FloatArray) -> FloatArray:
        """Mean square along the axes, in variances, and away from them, in residuals: (frame, 2)."""
        parts = np.empty((len(blocks), 2))
        variances, axes = np.asarray(self.variances), self.axes.astype(np.float64)
        for number, frame in enumerate(blocks):  # one by one: a product of matrices rounds by how many there are
            deviation = _deviations(frame[None], self.level)[0]
            along = axes @ deviation
            parts[number] = (along**2 / variances).mean(), max(deviation @ deviation - along @ along, 0) / self.residual
        return parts

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON, for the metadata of `save_network`; arrays as base64 of little-endian float32."""
        return {
            "format": FORMAT,
            "blocks": list(self.blocks),
            "level": _text(self.level),
            "axes": _text(self.axes),
            "variances": list(self.variances),
            "residual": self.residual,
            "typical": list(self.typical),
            "threshold": self.threshold,
            "frames": self.frames,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Familiarity":
        """The inverse of `to_dict`. Raises SettingError for another format."""
        if facts.get("format") != FORMAT:
            raise SettingError(f"format of the familiarity is {facts.get('format')!r}; this version reads {FORMAT}")
        rows, columns = facts["blocks"]
        axes = _array(facts["axes"]).reshape(len(facts["variances"]), -1)
        numbers = {key: facts[key] for key in ("residual", "threshold", "frames")}
        typical, variances = facts["typical"], tuple(facts["variances"])
        return cls(
            (rows, columns), _array(facts["level"]), axes, variances, typical=(typical[0], typical[1]), **numbers
        )


def fit_familiarity(
    frames: Iterable[NDArray[np.floating]], settings: FamiliaritySettings = FamiliaritySettings()
) -> Familiarity:
    """Fit the latent space on frames (row, column) with NaN, read one by one, and find the threshold.

    What is typical is measured on frames that were left out of the fit, in five random parts. The threshold is the
    upper end of a prediction interval of the logarithm of their distances (normal, Student's t), so that with few
    frames it is higher: a share `flagged` of new frames of the same kind lies above it, or fewer where `tolerance`
    allows for more.
    Raises ArrayError for fewer than six frames.

    >>> rng = np.random.default_rng(0)
    >>> frames = rng.normal(0.5, 0.1, size=(30, 48, 48)) + rng.uniform(0, 0.3, size=(30, 1, 1))
    >>> familiarity = fit_familiarity(frames)
    >>> other = np.where(np.indices((48, 48))[1] < 24, frames[:2], 0)
    >>> familiarity.unfamiliar(familiarity.distance(frames)).sum(), familiarity.unfamiliar(familiarity.distance(other))
    (np.int64(0), array([ True,  True]))
    """
    blocks = np.concatenate([_blocks(frame[None], settings.blocks) for frame in frames] or [np.empty((0, 2, 1))])
    if len(blocks) < FEWEST_FRAMES:
        raise ArrayError(f"{len(blocks)} frames are too few for a latent space; {FEWEST_FRAMES} are needed")
    fold = np.random.default_rng(settings.seed).permutation(len(blocks)) % FOLDS
    parts = np.empty((len(blocks), 2))
    for number in range(FOLDS):
        parts[fold == number] = _fit(blocks[fold != number], settings)._parts(blocks[fold == number])
    # Of a part below 1 nothing must come: it is within the tolerance. With these limits it is at most a distance of 2.
    typical = np.maximum(np.median(parts, axis=0), 1 / LEAST_THRESHOLD**2)
    logs = np.log(np.sqrt(np.maximum((parts / typical).max(axis=1), 1e-12)))
    quantile = student.ppf(1 - settings.flagged, len(logs) - 1) * math.sqrt(1 + 1 / len(logs))
    usual = math.exp(logs.mean() + quantile * logs.std(ddof=1))
    fitted = _fit(blocks, settings)
    return Familiarity(
        fitted.blocks,
        fitted.level,
        fitted.axes,
        fitted.variances,
        fitted.residual,
        (float(typical[0]), float(typical[1])),
        max(usual, LEAST_THRESHOLD),
        len(blocks),
    )


def _fit(blocks: FloatArray, settings: FamiliaritySettings) -> Familiarity:
    """The latent space, with nothing typical yet."""
    share = blocks[:, 1].sum(axis=0)
    level = np.concatenate([(blocks[:, 0] * blocks[:, 1]).sum(axis=0) / np.maximum(share, 1e-9), share / len(blocks)])
    deviations = _deviations(blocks, level.astype(np.float32))
    _, singular, axes = np.linalg.svd(deviations, full_matrices=False)
    kept = max(1, min(settings.components, len(blocks) // 4))
    consequence = deviations.shape[1] * settings.tolerance**2
    squares = singular**2 / len(blocks)
    return Familiarity(
        settings.blocks,
        level.astype(np.float32),
        axes[:kept].astype(np.float32),
        tuple((squares[:kept] + consequence).tolist()),
        float(squares[kept:].sum() + consequence),
        (1.0, 1.0),
        math.inf,
        len(blocks),
    )


def _blocks(frames: NDArray[np.floating], blocks: tuple[int, int]) -> FloatArray:
    """Mean of the measured pixels, 0 where there is none, and measured share of each block: (frame, 2, feature)."""
    if frames.ndim != 3 or not frames.size:
        raise ArrayError(f"frames have shape {frames.shape}; wanted (frame, row, column), at least one of each")
    pixels = _sums(np.ones((1, *frames.shape[1:])), blocks)
    parts = np.empty((len(frames), 2, blocks[0] * blocks[1]))
    for number, frame in enumerate(frames):
        measured = np.isfinite(frame)
        counted = _sums(measured[None].astype(np.float64), blocks)
        total = _sums(np.where(measured, frame, 0)[None].astype(np.float64), blocks)
        parts[number, 0] = (total / np.maximum(counted, 1)).ravel()
        parts[number, 1] = (counted / pixels).ravel()
    return parts


def _sums(frames: FloatArray, blocks: tuple[int, int]) -> FloatArray:
    """Sums over blocks as equal as whole pixels allow; more blocks than pixels repeat pixels."""
    rows, columns = ((np.arange(n) * size) // n for n, size in zip(blocks, frames.shape[1:], strict=True))
    return np.asarray(np.add.reduceat(np.add.reduceat(frames, rows, axis=1), columns, axis=2))


def _deviations(blocks: FloatArray, level: NDArray[np.float32]) -> FloatArray:
    """Vectors (frame, 2 feature): a block counts by its measured share, so that one without a pixel says nothing."""
    mean, mean_share = np.split(level.astype(np.float64), 2)
    values, shares = blocks[:, 0], blocks[:, 1]
    return np.concatenate([shares * (values - mean), shares - mean_share], axis=1)


def _text(array: NDArray[np.float32]) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _array(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
