"""What is added to a model once its training has ended: each part a function of the trained network, in this order.

A part is stored in model.json under its name, so that whatever uses the model finds it there. It must be a function of
its argument alone: a killed run computes it again, and the model must come out the same.
"""

from collections.abc import Callable
from typing import Any

from tasks.held_out import TrainedNetwork, held_out_scores
from tasks.model_trust import familiarity_part, uncertainty_part

Part = Callable[[TrainedNetwork], Any]


def _scores(trained: TrainedNetwork) -> list[dict[str, Any]]:
    return [row.to_dict() for row in held_out_scores(trained)]


MODEL_PARTS: dict[str, Part] = {"scores": _scores, "uncertainty": uncertainty_part, "familiarity": familiarity_part}


def model_parts(trained: TrainedNetwork) -> dict[str, Any]:
    """All parts by name, as JSON can hold them."""
    return {name: part(trained) for name, part in MODEL_PARTS.items()}
