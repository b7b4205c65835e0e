"""A class for every pixel of slices or volumes: what a model must know of its images, and what it answers."""

from dlsia_core.segmentation.answers import ClassStatistics, answer_tiles, segment
from dlsia_core.segmentation.recipe import SegmentationRecipe
from dlsia_core.segmentation.windows import Window, windows

__all__ = [
    "ClassStatistics",
    "SegmentationRecipe",
    "Window",
    "answer_tiles",
    "segment",
    "windows",
]
