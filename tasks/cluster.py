"""Cluster: `latent` becomes `coordinates` (frame, 2) on a map, and `cluster` (frame)."""

import time

import numpy as np

from dlsia_core.latent import hdbscan_clusters, umap_coordinates
from tasks.logs import logger_of
from tasks.settings.stages import ClusterSettings
from tasks.stage import RunPlan, StageRun, locate, noted, stage_task
from tasks.store import ArrayRef, FrameRange, open_store, shard_lineage

VERSION = 1
NOT_PROCESSED = -2


@stage_task("cluster")
def cluster_frames(plan: RunPlan, latent: ArrayRef, settings: ClusterSettings) -> tuple[StageRun, ArrayRef, ArrayRef]:
    """Map and cluster all frames together; done again only when frames, latent vectors or settings have changed."""
    started = time.monotonic()
    store = open_store(plan.scan)
    n_frames = store.n_frames
    stage = {"stage": "cluster", "version": VERSION, "settings": settings.model_dump(mode="json")}
    group, origin = locate(plan, "coordinates", stage, [latent])
    refs = [ArrayRef(plan.scan, group + name, origin["lineage"]) for name in ("coordinates", "cluster")]
    lineage = shard_lineage(refs[0], store.frames.ingested)
    computed = 0
    if not all(ref.path in store and store.is_committed(ref.path, 0, n_frames, lineage) for ref in refs):
        vectors = store.read(latent.path, 0, n_frames)
        umap = umap_coordinates(vectors, settings.n_neighbors, settings.min_dist, settings.seed)
        clusters = hdbscan_clusters(umap.coordinates, settings.min_cluster_size)
        used = {**origin, "n_neighbors_used": umap.n_neighbors}
        store.write_whole(refs[0].path, umap.coordinates, ("frame", "axis"), used, np.nan)
        meaning = {"long_name": "cluster; -1: noise, -2: not processed"}
        store.write_whole(refs[1].path, clusters, ("frame",), {**origin, **meaning}, NOT_PROCESSED)
        for ref in refs:
            store.commit(ref.path, 0, n_frames, lineage, store.shard_file(ref.path, 0))
        computed = n_frames
        logger_of(__name__).info(
            "clusters: %d, noise: %d frames", len(np.unique(clusters[clusters >= 0])), np.sum(clusters < 0)
        )
    run = noted(plan.scan, StageRun("cluster", FrameRange(0, n_frames), computed, time.monotonic() - started, 0))
    return run, refs[0], refs[1]
