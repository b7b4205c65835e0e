"""Flow: what process_scan would do with a scan, and the disk, memory and time it takes, before anything is written.

    python -m flows.plan_scan SOURCE STORE [--settings JSON]

says the same in a terminal. Exit status: 0, the run fits the machine; 1, the source or a setting cannot be used;
2, disk or memory are too small.
"""

import argparse
import json
import sys

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import ParameterTypeError
from pydantic import PositiveInt

from flows.embedded_server import served_flow
from flows.opening import survey
from flows.results import completed
from tasks.errors import PipelineError
from tasks.forecast import ScanForecast, forecast_scan
from tasks.model_registry import named_model
from tasks.models import find_model
from tasks.planning import StageSettings, check_settings, needs
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import (
    ClusterSettings,
    EncodeSettings,
    InferSettings,
    NormalizeSettings,
    StitchSettings,
    TileSettings,
    TrainSettings,
)
from tasks.workers import Workers


@served_flow(name="plan-scan", flow_run_name="plan {source}")
def plan_scan(
    source: str,
    store: str,
    model: str | None = None,
    sample_frames: PositiveInt = 8,
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings = NormalizeSettings(),
    tile: TileSettings = TileSettings(),
    train: TrainSettings = TrainSettings(),
    infer: InferSettings = InferSettings(),
    stitch: StitchSettings = StitchSettings(),
    encode: EncodeSettings = EncodeSettings(),
    cluster: ClusterSettings = ClusterSettings(),
    workers: Workers = Workers(),
) -> ScanForecast:
    """Say what process_scan would do with the same parameters; nothing is written but this run's record.

    Args:
        source: As for process_scan.
        store: As for process_scan; it need not be there.
        model: As for process_scan.
        sample_frames: New frames that are really read, processed and compressed, in memory, to tell cost and size.
        ingest: As for process_scan.
        normalize: As for process_scan.
        tile: As for process_scan.
        train: As for process_scan.
        infer: As for process_scan.
        stitch: As for process_scan.
        encode: As for process_scan.
        cluster: As for process_scan.
        workers: As for process_scan; frames are tried on this machine in any case.
    """
    stages = StageSettings(normalize, tile, train, infer, stitch, encode, cluster)
    path, found = survey(source, store, ingest)
    given = None if model is None else named_model(model)
    check_settings(stages, path, found, None if given is None else given.folder)
    chosen = None if given is None else find_model(given.folder, needs(stages.normalize))
    forecast = forecast_scan(source, path, found, ingest, stages, workers, chosen, sample_frames)
    create_markdown_artifact(forecast.sentence, key="scan-plan", description=f"What is left to do for {path}")
    create_table_artifact(forecast.table, key="scan-plan-stages", description=f"Stages of {path}")
    return completed(forecast)


def main(arguments: list[str] | None = None) -> int:
    """Print the forecast; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.plan_scan", description=__doc__)
    parser.add_argument("source", help="folder, file or quoted glob of detector files")
    parser.add_argument("store", help="where process_scan would write; it need not be there")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help='further parameters as JSON: \'{"tile": {"step": [64, 32]}}\''
    )
    options = parser.parse_args(arguments)
    try:
        forecast: ScanForecast = plan_scan(source=options.source, store=options.store, **options.settings)
    except (PipelineError, ParameterTypeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(forecast.text + "\n")
    return 2 if forecast.problems else 0


if __name__ == "__main__":
    sys.exit(main())
