"""Flow: train an inpainting model on the frames of a source, and register it under a name and a version."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from flows.embedded_server import served_flow
from flows.results import TrainedModel, completed
from flows.sources import frame_source
from tasks.model_registry import check_name
from tasks.registration import publish_model, training_root
from tasks.settings.ingest import IngestSettings
from tasks.settings.inpainting import InpaintingTraining, NetworkName, PresetName
from tasks.settings.stages import NormalizeSettings
from tasks.train_model import train_inpainter
from tasks.training_plan import planned_training
from tasks.workers import Workers


@served_flow(name="train-inpainting", flow_run_name="train {name}", task_runner=ThreadPoolTaskRunner(max_workers=4))
def train_inpainting(
    source: str,
    name: str,
    network: NetworkName | None = None,
    preset: PresetName = "quick",
    start_from: str | None = None,
    output: str | None = None,
    training: InpaintingTraining = InpaintingTraining(),
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings | None = None,
    workers: Workers = Workers(),
) -> TrainedModel:
    """Train a model that process_scan can use on other scans; run again, it goes on where it was, or finds the model.

    Args:
        source: Folder, file or glob of detector files, or a store made by process_scan, whose `normalized` is used.
        name: Name to register the model under; the version is the next free number.
        network: TUNet (also if empty), MSDNet, PartialConvUNet or ConvAutoencoder.
        preset: 'quick': minutes on two cores. 'paper': as in Chavez et al. 2022; hours on a GPU.
        start_from: Model to go on from (fine-tuning): a name, name:version, or a folder, with a slash in it.
        output: Folder for the store that detector files are ingested into, the training's state and its report. Empty:
            a folder of this name beside the registered models.
        training: What is not to be as in the preset.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled. Empty: the store's first, or the defaults for detector files.
        workers: Where shards are computed.
    """
    check_name(name)
    plan = planned_training(network, preset, training, start_from)
    folder = training_root(output, name)
    found = frame_source(source, folder, ingest, normalize)
    if found.shape is not None:
        plan.grid(found.shape)
    frames = found.frames(workers)
    model = train_inpainter(frames, plan, folder, name, source)
    published = publish_model(name, Path(model.folder))
    create_markdown_artifact(published.card, key="model-card", description=f"Card of {published.label}")
    create_table_artifact(list(published.quality), key="model-quality", description=f"Quality of {published.label}")
    return completed(
        TrainedModel(
            model=published.label,
            folder=published.folder,
            digest=published.digest,
            n_frames=frames.n_frames,
            quality=published.quality,
            epochs=published.epochs,
            best_epoch=published.best_epoch,
            warnings=(*found.warnings, *published.warnings),
            report=published.report,
        )
    )
