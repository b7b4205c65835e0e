"""Conformal estimation: sets of classes and intervals of values with a promised coverage, kept beside the network."""

from dlsia_core.conformal.coverage import IntervalCoverage, SetCoverage, measure_intervals, measure_sets
from dlsia_core.conformal.intervals import Band, IntervalCalibration, bin_groups, calibrate_intervals
from dlsia_core.conformal.quantile import (
    Threshold,
    block_units,
    conformal_quantile,
    fewest_units,
    hierarchical_threshold,
    unit_of_pixels,
)
from dlsia_core.conformal.scores import class_scores, label_from_one_hot, log_probabilities
from dlsia_core.conformal.sets import SetCalibration, SetSettings, calibrate_sets

__all__ = [
    "Band",
    "IntervalCalibration",
    "IntervalCoverage",
    "SetCalibration",
    "SetCoverage",
    "SetSettings",
    "Threshold",
    "bin_groups",
    "block_units",
    "calibrate_intervals",
    "calibrate_sets",
    "class_scores",
    "conformal_quantile",
    "fewest_units",
    "hierarchical_threshold",
    "label_from_one_hot",
    "log_probabilities",
    "measure_intervals",
    "measure_sets",
    "unit_of_pixels",
]
