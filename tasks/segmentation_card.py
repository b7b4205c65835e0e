"""Register a segmenting model: its card, its version, and a copy where the caller asked for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsia_core.networks.storage import write_atomically
from tasks.logs import logger_of
from tasks.model_registry import FILES, register
from tasks.report.segmentation_page import SHOWN, coverage_words, interval, segmentation_facts
from tasks.segmentation_model import load_segmentation
from tasks.stage import stage_task

LOW_F1 = 0.7


@dataclass(frozen=True)
class PublishedSegmenter:
    """A registered version, and what flows tell of it."""

    label: str
    folder: str
    digest: str
    card: str
    scores: tuple[dict[str, Any], ...]
    sets: dict[str, Any]
    warnings: tuple[str, ...]


@stage_task("register-segmenter")
def publish_segmenter(name: str, work: Path, output: Path) -> PublishedSegmenter:
    """Register the model in `work`, and put a copy of model, card and report into `output`."""
    version = register(name, work, lambda label: segmentation_card(work, label))
    model = load_segmentation(version.folder, version.label)
    card = (version.folder / "card.md").read_text(encoding="utf-8")
    # The description last but one, as `save_network` does; what does not fit together is refused by whoever loads it.
    for file in ("model.safetensors", *(file for file in FILES if file != "model.safetensors")):
        if (work / file).exists():
            write_atomically(output / file, (work / file).read_bytes())
    write_atomically(output / "card.md", card.encode())
    logger_of(__name__).info("registered %s: %s", version.label, version.folder)
    facts = model.facts
    return PublishedSegmenter(
        label=version.label,
        folder=str(version.folder),
        digest=model.ref.digest,
        card=card,
        scores=tuple(facts["scores"]),
        sets=facts["sets"],
        warnings=warnings_of(facts),
    )


def warnings_of(facts: dict[str, Any]) -> tuple[str, ...]:
    """What a person should know before using the model."""
    found = list(facts["trained_on"]["notes"])
    if "reason" in facts["sets"] and facts["sets"]["reason"] not in found:
        found.append(f"there are no conformal sets: {facts['sets']['reason']}")
    for row in facts["scores"]:
        if row["f1"] is not None and row["f1"] < LOW_F1 and row["class"] != "mean":
            found.append(f"class {row['class']!r} has an F1 of {row['f1']:.2f} on held-out blocks; label more of it")
    return tuple(found)


def segmentation_card(folder: Path, label: str) -> str:
    """Markdown for the model in a folder; a pure function of it and the label."""
    facts = json.loads((folder / "model.json").read_text())["metadata"]
    effort = json.loads((folder / "training.json").read_text())
    listed = "\n".join(f"- {key}: {text}" for key, text in segmentation_facts(facts, effort).items())
    return "\n\n".join(
        [
            f"# {label}",
            f"Finds {', '.join(facts['recipe']['classes'])} in images.",
            f"## What it was trained on\n\n{listed}",
            f"## How good it is\n\n{_scores(facts)}",
            f"## How sure it is\n\n{coverage_words(facts['sets'])}",
            f"## How to use it\n\n`segment_volume(source=…, model={label!r}, store=…)`, on images of the same scale of "
            f"values: it sees (value - {facts['recipe']['center']:.6g}) / {facts['recipe']['scale']:.6g}.",
        ]
    )


def _scores(facts: dict[str, Any]) -> str:
    if not facts["scores"]:
        return "Not measured: no labels are held out."
    lines = [["class", *SHOWN], ["---"] * (1 + len(SHOWN))]
    lines += [[row["class"], *(interval(row, key) for key in SHOWN)] for row in facts["scores"]]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"On blocks that it was not trained on; in brackets 95 % intervals over blocks.\n\n{rows}"
