"""Instances of a segmented volume, larger than memory if need be: components, dusting, touching fibres split,
table, statistics.

>>> import numpy as np
>>> volume = np.zeros((4, 5, 5), bool); volume[:, 1, 1] = volume[2, 3:, 3] = True
>>> plan = plan_instances(lambda start, stop: volume[start:stop], n_slices=4, slab=2)
>>> plan.n_instances
2
"""

from .autocorrelation import Autocorrelation, autocorrelation, directions_of
from .components import Components, Connectivity, ReadSlab, find_components
from .fibre_splitting import FibreLines, SplitSettings, split_fibres
from .plan import InstancePlan, label_slabs, plan_instances
from .statistics import Orientations, ks_distance, orientations
from .table import InstanceTable, instance_table, main_directions

__all__ = [
    "Autocorrelation",
    "Components",
    "Connectivity",
    "FibreLines",
    "InstancePlan",
    "InstanceTable",
    "Orientations",
    "ReadSlab",
    "SplitSettings",
    "autocorrelation",
    "directions_of",
    "find_components",
    "instance_table",
    "ks_distance",
    "label_slabs",
    "main_directions",
    "orientations",
    "plan_instances",
    "split_fibres",
]
