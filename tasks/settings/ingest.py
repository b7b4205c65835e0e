"""Settings of the ingest stage."""

from pydantic import Field

from tasks.readers import ValidityRule
from tasks.settings.base import Settings
from tasks.store import Compression


class IngestSettings(Settings):
    """How detector files become `counts` and `valid`. Compression is fixed for the life of a store."""

    validity: ValidityRule = Field(
        default=ValidityRule(),
        description="Which recorded values say that a pixel did not measure. Another rule than the store was made with "
        "writes `valid` and what follows beside the first results.",
    )
    compression: Compression = Field(
        default="lz4",
        description="Lossless compression of counts: 'lz4' (fast) or 'zstd' (a third smaller, half as fast).",
    )
    batch_frames: int = Field(
        default=256,
        ge=16,
        le=4096,
        multiple_of=16,
        description="Frames per task run: the unit of retry and of progress shown.",
    )
