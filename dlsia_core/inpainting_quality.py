"""How well gaps are filled, measured where the truth is known: on pixels that were measured and then hidden."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dlsia_core.errors import ArrayError
from dlsia_core.gaps import fill_linear
from dlsia_core.inpainting import InpaintingRecipe, predict

FloatArray = NDArray[np.float32]


def quality_on_hidden(
    network: nn.Module,
    tiles: FloatArray,
    hidden: NDArray[np.bool_],
    recipe: InpaintingRecipe,
    *,
    device: str | torch.device = "cpu",
) -> list[dict[str, Any]]:
    """L1 and Pearson r of the network and of linear interpolation on the hidden pixels of `tiles`.

    tiles: (tile, tile_row, tile_column), NaN = not measured; hidden: the same shape, True = hidden from both methods.
    Pixels that were never measured count for neither. One row of plain values for each method.
    Raises ArrayError where shapes differ or no measured pixel is hidden.
    """
    if hidden.shape != tiles.shape:
        raise ArrayError(f"hidden has shape {hidden.shape} and tiles {tiles.shape}; they must be the same")
    judged = hidden & np.isfinite(tiles)
    if not judged.any():
        raise ArrayError("no measured pixel is hidden, so nothing can be judged; draw other gaps")
    shown = np.where(hidden, np.float32(np.nan), tiles)
    filled = {"network": predict(network, shown, recipe, device=device), "linear interpolation": fill_linear(shown)}
    truth = tiles[judged].astype(np.float64)
    return [
        {"method": name, **_errors(values[judged].astype(np.float64), truth), "pixels": int(judged.sum())}
        for name, values in filled.items()
    ]


def _errors(values: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float | None]:
    varies = values.std() > 0 and truth.std() > 0
    return {
        "L1 (normalized counts)": float(np.abs(values - truth).mean()),
        # Undefined where either side is constant; None says so in the report.
        "Pearson r": float(np.corrcoef(values, truth)[0, 1]) if varies else None,
    }
