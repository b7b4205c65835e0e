"""Metrics of segmentation and regression over whole sets, with bootstrap intervals."""

from dlsia_core.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    confusion_parts,
    moving_block_interval,
    regression_parts,
    regression_statistic,
)
from dlsia_core.metrics.confusion import (
    classification_scores,
    confusion_matrix,
    counted_pixels,
    scores_per_class,
    segmentation_scores,
)
from dlsia_core.metrics.moments import PairMoments, pair_moments, regression_scores
from dlsia_core.metrics.running import RegressionMetrics, SegmentationMetrics, predicted_classes

__all__ = [
    "Interval",
    "PairMoments",
    "RegressionMetrics",
    "SegmentationMetrics",
    "bootstrap_interval",
    "classification_scores",
    "confusion_matrix",
    "confusion_parts",
    "counted_pixels",
    "moving_block_interval",
    "pair_moments",
    "predicted_classes",
    "regression_parts",
    "regression_scores",
    "regression_statistic",
    "scores_per_class",
    "segmentation_scores",
]
