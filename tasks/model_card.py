"""The card of a registered model: what it was trained on, for how long, how good it is on what, how it is used."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.held_out import readable
from tasks.model_trust import familiarity_in, uncertainty_in


def card_of(folder: Path, label: str) -> str:
    """Markdown for the model in a folder, from what is stored there; a pure function of it and the label."""
    model = json.loads((folder / "model.json").read_text())
    config, facts, effort = model["config"], model["metadata"], json.loads((folder / "training.json").read_text())
    return "\n\n".join(
        [
            f"# {label}",
            f"A {config['network']} that fills the gaps of detector frames.",
            "## What it was trained on",
            _list({**data_facts(facts), "Source": f"`{facts['trained_on']['source']}`"}),
            "## How",
            _list(training_facts(config, facts, effort)),
            "## How good it is",
            _quality(facts),
            "## How sure it is",
            _sureness(facts),
            "## How to use it",
            f"`process_scan(source=…, store=…, model={label!r})`; to go on from it with other frames, "
            f"`train_inpainting(source=…, name={label.split(':')[0]!r}, start_from={label!r})`. "
            "It knows frames that are normalized as its own were; others are refused or warned of.",
        ]
    )


def data_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a model was trained on, in words."""
    detector, trained, split = facts["detector"], facts["trained_on"], facts["split"]
    rows, columns = detector["frame_shape"]
    held_out = f"{len(split['validation'])} more to choose the best epoch, {len(split['test'])} for the figures below"
    return {
        "Source": trained["source"],
        "Detector": f"{detector['name'] or 'not named in the files'}, {rows} x {columns} pixels",
        "Gaps once normalized": f"rows {_runs(detector['gap_rows'])}; columns {_runs(detector['gap_columns'])} "
        "(first, and the one behind the last)",
        "Frames": f"{trained['frames']} of {split['n_frames']} ({trained['tiles']} tiles); {held_out}"
        if split["holds_out"]
        else f"{trained['frames']}, and no other to judge the model by",
        "Normalization": ", ".join(f"{key} {value}" for key, value in facts["normalize"].items()),
        "Scale of the counts": ", ".join(f"{key} {value}" for key, value in facts["scale"].items()),
        "Started from": facts.get("started_from") or "random weights",
    }


def training_facts(config: Mapping[str, Any], facts: Mapping[str, Any], effort: Mapping[str, Any]) -> dict[str, str]:
    """How a model was trained, in words; effort: what it took."""
    plan, recipe = facts["origin"]["plan"], facts["recipe"]
    settings = ", ".join(f"{key} {value}" for key, value in config.items() if key != "network" and value is not None)
    return {
        "Network": f"{config['network']}: {settings}",
        "Input": f"prefill {recipe['prefill']}; tiles of {' x '.join(map(str, facts['tile_shape']))}",
        "Preset": f"{plan['preset']}, batches of {plan['batch_size']}, learning rate {plan['learning_rate']:g}",
        "Took": f"{effort['seconds']} s on {effort['device']}",
        "Epochs": f"{effort['epochs']}, ended by {effort['stopped']}; best: {facts['curve']['best_epoch'] + 1}",
        "Seed": str(plan["seed"]),
    }


def _quality(facts: Mapping[str, Any]) -> str:
    rows = readable(facts["scores"])
    if not rows:
        return "Not measured: no gaps could be hidden in the test frames."
    on = (
        "frames that it was not trained on" if facts["split"]["holds_out"] else "its own training frame: too optimistic"
    )
    text = f"On artificial gaps of the detector's geometry, in {on}; whole frames, gap pixels only."
    return f"{text}\n\n{_table(rows)}"


def _sureness(facts: Mapping[str, Any]) -> str:
    uncertainty, (familiarity, why_not) = uncertainty_in(facts), familiarity_in(facts)
    known = (
        f"Frames are marked as unlike its {familiarity.frames} own from a distance of {familiarity.threshold:.2g} on."
        if familiarity
        else f"It does not know which frames are like its own: {why_not}."
    )
    return f"{uncertainty.statement} {known}"


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _runs(gaps: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{start}-{stop}" for start, stop in gaps) or "none"
