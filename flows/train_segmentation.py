"""Flow: train a model that segments, from sparse or full labels, and register it under a name and version."""

from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from tasks.model_registry import check_name
from tasks.segmentation_card import publish_segmenter
from tasks.segmentation_judge import judge_networks
from tasks.segmentation_learning import learning_of
from tasks.segmentation_member import PlannedNetwork, require_room, train_network, work_folder
from tasks.segmentation_plan import planned_segmentation
from tasks.settings import Settings, confine
from tasks.settings.segmentation import LabelMeaning, Preset, SegmentationTraining, SegmentingNetwork, VolumeReading
from tasks.store.lock import writer_lock


class TrainedSegmenter(Settings):
    """A model that segments, where it is, and how good it is on held-out labels."""

    model: str = Field(description="Name and version, as segment_volume takes them; the output folder does as well.")
    folder: str
    digest: str
    classes: tuple[str, ...]
    scores: tuple[dict[str, Any], ...] = Field(description="By class, with 95 % intervals; empty: nothing held out.")
    sets: dict[str, Any] = Field(description="Promised and found coverage of conformal sets, or why there are none.")
    pixels: dict[str, int] = Field(description="Labelled pixels of each set.")
    warnings: tuple[str, ...] = ()
    report: str

    @property
    def sentence(self) -> str:
        """The result in one line."""
        said = [f"{row['class']} F1 {row['f1']:.3f}" for row in self.scores if row["f1"] is not None]
        return f"{self.model}: {', '.join(said) or 'not measured'}"


@served_flow(
    name="train-segmentation", flow_run_name="segmenter for {images}", task_runner=ThreadPoolTaskRunner(max_workers=4)
)
def train_segmentation(
    images: str | Path,
    labels: str | Path,
    output: str | Path,
    name: str = "segmentation",
    network: SegmentingNetwork = "SMSNet ensemble",
    preset: Preset = "quick",
    meaning: LabelMeaning = LabelMeaning(),
    reading: VolumeReading = VolumeReading(),
    training: SegmentationTraining = SegmentationTraining(),
) -> TrainedSegmenter:
    """Train a model for segment_volume; run again, it goes on where it was, or finds the model.

    Args:
        images: Scan store, TIFF stack, folder or glob of slices, single image, Zarr array or HDF5 file.
        labels: Labels of the same size, for all slices or some; TIFF, PNG, Zarr or HDF5, as napari saves them.
        output: Folder for the model, its report, and the training's state.
        name: Name to register the model under; the version is the next free number.
        network: An ensemble of sparse mixed-scale networks, or another kind; training.members says how many.
        preset: 'quick': minutes on two cores. 'paper': as in Roberts et al. 2024, §4.2; for a GPU.
        meaning: What the values of the labels stand for. Unlabelled pixels are not background.
        reading: Arrays inside files, whether slices are neighbors in space, and ring artifacts.
        training: What is not to be as in the preset.
    """
    check_name(name)
    plan = planned_segmentation(network, preset, training)
    folder = confine(output, "store")
    learning = learning_of(str(images), str(labels), meaning, reading, plan)
    configs = plan.configs(len(learning.labels.names))
    networks = [PlannedNetwork(number, len(configs), config) for number, config in enumerate(configs)]
    require_room(folder, networks)
    work = work_folder(folder, learning)
    with writer_lock(work / "lock"):
        trained = [
            # One after the other: they share the device.
            train_network.with_options(task_run_name=one.name).submit(learning, one, work).result()
            for one in networks
        ]
        judge_networks(learning, trained, work, name)
        published = publish_segmenter(name, work, folder)
    create_markdown_artifact(published.card, key="segmenter-card", description=f"Card of {published.label}")
    create_table_artifact(list(published.scores), key="segmenter-scores", description=f"Scores of {published.label}")
    return completed(
        TrainedSegmenter(
            model=published.label,
            folder=published.folder,
            digest=published.digest,
            classes=learning.labels.names,
            scores=published.scores,
            sets=published.sets,
            pixels=learning.split.pixels,
            warnings=published.warnings,
            report=str(folder / "report.html"),
        )
    )
