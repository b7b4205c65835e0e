"""Contents of reports with a known answer.

make_content   ReportContent of a small scan; keywords replace its fields
make_pair      FramePair with a gap of known place
make_map       LatentMap of frames in two planted clusters and noise
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tasks.report import FramePair, LatentMap, LossCurve, QuarantinedFrame, ReportContent, StageFacts


def pair_of(shape: tuple[int, int] = (64, 48), name: str = "frame 5", seed: int = 0) -> FramePair:
    after = np.random.default_rng(seed).uniform(0.2, 0.8, shape).astype(np.float32)
    provenance = np.zeros(shape, np.uint8)
    provenance[:, shape[1] // 2] = 1
    provenance[-1] = 2
    after[-1] = np.nan
    before = np.where(provenance == 0, after, np.nan).astype(np.float32)
    return FramePair(name, before, after, provenance)


def map_of(n_frames: int = 12, side: int = 8, seed: int = 0, **replaced: Any) -> LatentMap:
    rng = np.random.default_rng(seed)
    cluster = np.arange(n_frames) % 2
    cluster[::5] = -1
    values = {
        "coordinates": rng.normal(size=(n_frames, 2)).astype(np.float32),
        "cluster": cluster,
        "frame_names": [f"scan_{i:05d}.cbf" for i in range(n_frames)],
        "frame_numbers": np.arange(n_frames) + 100,
        "thumbnails": rng.uniform(0, 1, (n_frames, side, side)).astype(np.float32),
    }
    return LatentMap(**{**values, **replaced})


def content_of(**replaced: Any) -> ReportContent:
    values: dict[str, Any] = {
        "scan_name": "silver behenate 7",
        "source": "/data/raw/scan7",
        "store_path": "/data/processed/scan7.zarr",
        "created": "2026-03-04T07:12:55+01:00",
        "versions": {"dlsia-flows": "0.1.0"},
        "settings": {"normalize": {"size": [512, 512]}, "train": {"network": {"depth": 4}}},
        "stages": (
            StageFacts("ingest", "done", 48, 0.5, 96.0, 98_000_000),
            StageFacts("encode", "reused", 48, reason="same frames and settings as before"),
            StageFacts("cluster", "left out", 0, reason="not asked for"),
        ),
        "frames": {"ingested": 48, "quarantined": 2},
        "quarantined": (
            QuarantinedFrame("/data/raw/scan7/a_00031.cbf", "Content-MD5 does not match", 2_481_152),
            QuarantinedFrame("/data/raw/scan7/a_00044.cbf", "truncated", 1_052_672),
        ),
        "frames_found": 50,
        "pictures": (pair_of(),),
        "curves": (LossCurve("TUNet", [0.3, 0.2, 0.1], [0.4, 0.2, 0.3], 1, "L1"),),
        "inpainting_quality": ({"method": "TUNet", "L1": 0.0044}, {"method": "biharmonic", "L1": 0.0066}),
        "latent": map_of(),
        "left_out": (("uncertainty", "no ensemble was asked for"),),
    }
    return ReportContent(**{**values, **replaced})


@pytest.fixture
def make_content() -> Callable[..., ReportContent]:
    return content_of


@pytest.fixture
def make_pair() -> Callable[..., FramePair]:
    return pair_of


@pytest.fixture
def make_map() -> Callable[..., LatentMap]:
    return map_of
