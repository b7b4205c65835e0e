"""Flow: autoencoder, latent vectors, map and clusters of tiles: generated shapes (paper (a), §4.3) or measured ones."""

from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.embedded_server import served_flow
from flows.results import completed
from flows.sources import frame_source
from tasks.devices import check_device
from tasks.errors import SettingsError
from tasks.report_tiles import write_tiles
from tasks.settings import Settings, confine
from tasks.settings.ingest import IngestSettings
from tasks.settings.stages import NormalizeSettings
from tasks.settings.tile_clusters import TileClusterSettings
from tasks.store.lock import writer_lock
from tasks.tile_clusters import cluster_tiles, learn_tiles
from tasks.tile_source import Tiles, check_enough, generated_tiles, measured_tiles
from tasks.workers import Workers

LOCK = "clusters/lock"


class ClusteredShapes(Settings):
    """What clustering found."""

    output: str
    sentence: str = Field(description="The result in one line.")
    n_tiles: int = Field(description="Tiles on the map; others were learned from.")
    n_clusters: int
    pearson: float = Field(description="Of the reconstructions with the tiles, over all pixels.")
    adjusted_rand: float | None = Field(description="Of the clusters with the true shapes; None: they are not known.")
    clusters: tuple[dict[str, Any], ...] = Field(description="Tiles of each cluster.")
    warnings: tuple[str, ...] = ()
    results: str = Field(description="tiles.csv.")
    report: str = Field(description="The HTML report.")


@served_flow(
    name="cluster-shapes", flow_run_name="clusters in {output}", task_runner=ThreadPoolTaskRunner(max_workers=2)
)
def cluster_shapes(
    output: str,
    source: str | None = None,
    tiles: TileClusterSettings = TileClusterSettings(),
    ingest: IngestSettings = IngestSettings(),
    normalize: NormalizeSettings | None = None,
    workers: Workers = Workers(),
) -> ClusteredShapes:
    """Cluster tiles by what an autoencoder makes of them; run again, a training that is done is not done again.

    Args:
        output: Folder for tiles.csv, report.html and the autoencoder.
        source: Folder, file or glob of detector files, or a store made by process_scan, whose `normalized` is cut into
            tiles. Empty: random circles, triangles, rectangles and annuli, whose shapes the clusters are compared with.
        tiles: Tiles, autoencoder, map and clusters.
        ingest: How detector files become counts and valid.
        normalize: How counts are resized and scaled. Empty: the store's first, or the defaults for detector files.
        workers: Where frames are computed.
    """
    folder = confine(output, "store")
    check_device(tiles.device)
    check_enough(tiles, tiles.new_tiles)
    with writer_lock(folder / LOCK):
        cut = _tiles(folder, source, tiles, ingest, normalize, workers)
        model = learn_tiles(folder, cut, tiles)
        found = cluster_tiles(model, cut, tiles)
        written = write_tiles(folder, source or "generated shapes", cut, found)
    create_markdown_artifact(f"# {written.verdict}\n", key="clusters-summary", description=f"Clusters in {output}")
    create_table_artifact(list(written.clusters), key="clusters-table", description=f"Clusters in {output}")
    return completed(
        ClusteredShapes(
            output=str(folder),
            sentence=written.verdict,
            n_tiles=len(cut.new),
            n_clusters=found.n_clusters,
            pearson=found.pearson,
            adjusted_rand=found.adjusted_rand,
            clusters=written.clusters,
            warnings=cut.remarks,
            results=written.results,
            report=written.report,
        )
    )


def _tiles(
    folder: Path,
    source: str | None,
    tiles: TileClusterSettings,
    ingest: IngestSettings,
    normalize: NormalizeSettings | None,
    workers: Workers,
) -> Tiles:
    if source is None:
        if normalize is not None or ingest != IngestSettings():
            raise SettingsError("ingest or normalize is given without a source; leave them out, or give a source")
        return generated_tiles(tiles)
    return measured_tiles(frame_source(source, folder, ingest, normalize).frames(workers), tiles)
