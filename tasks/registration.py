"""Register a trained model: its card, its version, and what flows tell of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.held_out import readable
from tasks.logs import logger_of
from tasks.model_card import card_of
from tasks.model_registry import register
from tasks.model_trust import uncertainty_in
from tasks.models import find_model
from tasks.settings import confine
from tasks.settings.paths import models_root
from tasks.stage import stage_task

TRAININGS = ".trainings"


@dataclass(frozen=True)
class PublishedModel:
    """A registered version, and what flows tell of it."""

    label: str
    folder: str
    digest: str
    card: str
    report: str
    quality: tuple[dict[str, Any], ...]
    epochs: int
    best_epoch: int
    warnings: tuple[str, ...]


def training_root(output: str | None, name: str) -> Path:
    """The folder of a training: the one that was given, or one among the registered models."""
    return confine(output, "store") if output else models_root() / TRAININGS / name


@stage_task("register")
def publish_model(name: str, folder: Path) -> PublishedModel:
    """Write the report of a finished training and register its model; the same model has one version only."""
    version = register(name, folder, lambda label: card_of(folder, label))
    model = find_model(version.folder, {})
    facts = json.loads((version.folder / "model.json").read_text())["metadata"]
    logger_of(__name__).info("registered %s: %s", version.label, version.folder)
    return PublishedModel(
        label=version.label,
        folder=model.folder,
        digest=model.digest,
        card=(version.folder / "card.md").read_text(encoding="utf-8"),
        report=str(version.folder / "report.html"),
        quality=tuple(readable(facts["scores"])),
        epochs=len(facts["curve"]["train"]),
        best_epoch=facts["curve"]["best_epoch"],
        warnings=warnings_of(facts),
    )


def warnings_of(facts: dict[str, Any]) -> tuple[str, ...]:
    """What a person should know before using the model."""
    found = []
    if not facts["split"]["holds_out"]:
        found.append("there was one frame only: the model is judged on the frame that it was trained on")
    if reason := uncertainty_in(facts).reason:
        found.append(f"there is no calibrated error of what the model fills in: {reason}; train on more frames")
    for row in facts["quality"]:
        ratio = row["L1 over linear"]
        if row["method"] == "network" and ratio is not None and ratio >= 1:
            found.append(
                f"on {row['gaps']} gaps the model is no better than linear interpolation (L1 {ratio:.2f} times as "
                "large); train longer, or on more frames"
            )
    return tuple(found)
