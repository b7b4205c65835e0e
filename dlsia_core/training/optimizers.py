"""torch's optimizers by name, with their settings checked before anything is computed."""

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dlsia_core.errors import SettingError

OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: known
    for name, known in vars(torch.optim).items()
    if inspect.isclass(known) and issubclass(known, Optimizer) and known is not Optimizer
}


def build_optimizer(
    name: str, settings: Mapping[str, Any], learning_rate: float, parameters: Iterable[nn.Parameter]
) -> Optimizer:
    """The optimizer `torch.optim.<name>`.

    settings: keyword arguments of its class, other than the learning rate; JSON must hold them.
    Raises SettingError for an unknown name or setting (it lists the known ones), for a value torch refuses, and for
    optimizers that call the loss several times a step or want sparse gradients.

    >>> optimizer = build_optimizer("SGD", {"momentum": 0.9}, 0.1, [nn.Parameter(torch.zeros(2))])
    >>> optimizer.param_groups[0]["momentum"]
    0.9
    """
    if name not in OPTIMIZERS:
        raise SettingError(f"optimizer is {name!r}; known optimizers: {', '.join(sorted(OPTIMIZERS))}")
    known = OPTIMIZERS[name]
    if inspect.signature(known.step).parameters["closure"].default is inspect.Parameter.empty:
        raise SettingError(f"{name} computes the loss several times in one step, which fit does not do; try Adam")
    if known is torch.optim.SparseAdam:
        raise SettingError(f"{name} wants sparse gradients, and no network here has them; use Adam")
    accepted = [key for key in inspect.signature(known).parameters if key not in ("params", "lr", "differentiable")]
    if unknown := sorted(set(settings) - set(accepted)):
        wrong = ", ".join(map(repr, unknown))
        raise SettingError(f"optimizer_settings of {name}: {wrong} not known; it knows {', '.join(accepted)}")
    try:
        json.dumps(dict(settings), allow_nan=False)
        return known(list(parameters), lr=learning_rate, **settings)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} with {dict(settings)} and learning rate {learning_rate:g}: {error}") from error
