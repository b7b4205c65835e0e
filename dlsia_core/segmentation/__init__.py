"""A class for every pixel of slices or volumes: what a model must know of its images, and what it answers."""

from dlsia_core.segmentation.answers import ClassStatistics, answer_tiles, segment
from dlsia_core.segmentation.decisions import check_rule, pack_sets, set_dtype, sure_label, unpack_sets
from dlsia_core.segmentation.layers import Layer, layers, layers_of
from dlsia_core.segmentation.recipe import SegmentationRecipe
from dlsia_core.segmentation.windows import Window, windows

__all__ = [
    "ClassStatistics",
    "Layer",
    "SegmentationRecipe",
    "Window",
    "answer_tiles",
    "check_rule",
    "layers",
    "layers_of",
    "pack_sets",
    "segment",
    "set_dtype",
    "sure_label",
    "unpack_sets",
    "windows",
]
