"""Flow: propose the tiles that are most worth labelling next, for napari."""

from pathlib import Path
from typing import Any

import numpy as np
from prefect.artifacts import create_table_artifact
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.label_coach import IGNORE, coaching_model, write_proposals
from tasks.settings import Settings, confine
from tasks.settings.segmentation import CoachSettings, LabelMeaning, VolumeReading
from tasks.volumes import open_volume, read_labels, ring_filter, without_rings


class ProposedLabels(Settings):
    """Tiles worth labelling, the first one most."""

    model: str
    tiles: tuple[dict[str, Any], ...]
    file: str = Field(description="Rectangles for a shapes layer: drag the file into napari.")

    @property
    def sentence(self) -> str:
        """The result in one line."""
        return f"{len(self.tiles)} tiles to label next in {self.file}"


@served_flow(name="propose-labels", flow_run_name="what to label in {images}")
def propose_labels(
    images: str | Path,
    model: str,
    output: str | Path,
    labels: str | Path | None = None,
    meaning: LabelMeaning = LabelMeaning(),
    reading: VolumeReading = VolumeReading(),
    coach: CoachSettings = CoachSettings(),
) -> ProposedLabels:
    """Find where the members of an ensemble disagree most, away from what is labelled already.

    Args:
        images: As for train_segmentation.
        model: Ensemble made by train_segmentation: a name, name:version, or a folder, with a slash in it.
        output: Folder for proposals.csv, rectangles that napari opens as a shapes layer.
        labels: What is labelled already. Empty: nothing.
        meaning: What the values of the labels stand for.
        reading: Arrays inside files, whether slices are neighbors in space, and ring artifacts.
        coach: How many tiles, how large, how far apart.
    """
    folder = confine(output, "store")
    found = coaching_model(model, coach.device)
    volume = open_volume(str(images), reading.images_dataset, reading.stacked)
    rings = ring_filter(volume, reading.rings, found.ring_width)
    labelled = np.zeros(volume.shape, np.bool_)
    if labels is not None:
        labelled = read_labels(str(labels), reading.labels_dataset, volume, meaning).label != IGNORE
    folder.mkdir(parents=True, exist_ok=True)
    seen = volume if rings is None else without_rings(volume, rings)
    written = write_proposals(found.ref, seen, labelled, folder, coach, reading.stacked == "separate")
    create_table_artifact(list(written.table), key="tiles-to-label", description=f"Most worth labelling in {images}")
    return completed(ProposedLabels(model=found.label, tiles=written.table, file=written.file))
