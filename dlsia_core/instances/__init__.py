"""Instances of a segmented volume, larger than memory if need be: components, dusting, touching fibres split, table.

>>> import numpy as np
>>> volume = np.zeros((4, 5, 5), bool); volume[:, 1, 1] = volume[2, 3:, 3] = True
>>> plan = plan_instances(lambda start, stop: volume[start:stop], n_slices=4, slab=2)
>>> plan.n_instances
2
"""

from .components import Components, Connectivity, ReadSlab, find_components
from .fibre_splitting import FibreLines, SplitSettings, split_fibres
from .plan import InstancePlan, label_slabs, plan_instances
from .table import InstanceTable, instance_table, main_directions

__all__ = [
    "Components",
    "Connectivity",
    "FibreLines",
    "InstancePlan",
    "InstanceTable",
    "ReadSlab",
    "SplitSettings",
    "find_components",
    "instance_table",
    "label_slabs",
    "main_directions",
    "plan_instances",
    "split_fibres",
]
