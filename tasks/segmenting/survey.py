"""Read every slice once before hours of work: what cannot be read, or is no number, shows now."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from tasks.errors import SourceError
from tasks.logs import logger_of
from tasks.segmenting.plan import SegmentPlan, volume_of
from tasks.settings.base import digest
from tasks.stage import stage_task
from tasks.workers import Workers


@stage_task("survey-volume")
def survey_volume(plan: SegmentPlan, workers: Workers) -> tuple[str, ...]:
    """SHA-256 of the pixels of every slice. Raises `SourceError` for slices that cannot be used."""
    volume = volume_of(plan.source, plan.dataset)

    def look(number: int) -> str:
        pixels = volume.read_slice(number)
        if pixels.shape != plan.shape[1:]:
            raise SourceError(f"slice {number} of {plan.source} is {pixels.shape}, wanted {plan.shape[1:]}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            count = int((~np.isfinite(pixels)).sum())
            raise SourceError(
                f"{count} pixels of slice {number} of {plan.source} are no finite numbers; fill them before "
                "(process_scan writes `inpainted`), or cut them off"
            )
        return slice_digest(pixels)

    with ThreadPoolExecutor(workers.n_threads) as pool:
        digests = tuple(pool.map(look, range(plan.shape[0])))
    logger_of(__name__).info("survey: %d slices of %s can be read", len(digests), plan.source)
    return digests


def slice_digest(pixels: NDArray[np.generic]) -> str:
    """Names the pixels of a slice (y, x): its type and values."""
    return hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}".encode() + np.ascontiguousarray(pixels).data).hexdigest()


def source_digest(digests: tuple[str, ...]) -> str:
    """Names a whole volume."""
    return digest(list(digests))
