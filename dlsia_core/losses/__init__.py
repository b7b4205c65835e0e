"""Losses (prediction, target, weight) -> a tensor without axes; their `repr` tells one from another."""

from dlsia_core.losses.combined import DiceCrossEntropy, WeightedSum
from dlsia_core.losses.contract import Loss, loss_name, sees_whole_batch
from dlsia_core.losses.overlap import Dice, FocalTversky, Tversky
from dlsia_core.losses.pixelwise import CrossEntropy, Focal
from dlsia_core.losses.regression import TotalVariation, weighted_l1, weighted_l2

__all__ = [
    "CrossEntropy",
    "Dice",
    "DiceCrossEntropy",
    "Focal",
    "FocalTversky",
    "Loss",
    "TotalVariation",
    "Tversky",
    "WeightedSum",
    "loss_name",
    "sees_whole_batch",
    "weighted_l1",
    "weighted_l2",
]
