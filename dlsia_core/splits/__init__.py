"""Which items and which pixels are for training, validation and test, and how much each class counts."""

from dlsia_core.splits.blocks import EXCLUDED, block_numbers, in_set, labels_in_set, split_blocks
from dlsia_core.splits.items import SETS, Fractions, ItemSplit, set_sizes, split_groups, split_items
from dlsia_core.splits.weights import class_weights

__all__ = [
    "EXCLUDED",
    "SETS",
    "Fractions",
    "ItemSplit",
    "block_numbers",
    "class_weights",
    "in_set",
    "labels_in_set",
    "set_sizes",
    "split_blocks",
    "split_groups",
    "split_items",
]
