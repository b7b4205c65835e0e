"""The state of a training in one file: safetensors, with the rest as JSON in its header; replaced in one step."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import Precision
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from dlsia_core.errors import SettingError
from dlsia_core.networks.registry import empty_network
from dlsia_core.networks.storage import write_atomically
from dlsia_core.training.errors import CheckpointMismatchError
from dlsia_core.training.history import Progress

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Live:
    """What a training changes in place.

    precision: Fabric's, which in "16-mixed" holds the scale of the gradients. average: of the weights, if one is kept.
    """

    network: nn.Module
    optimizer: Optimizer
    precision: Precision
    average: nn.Module | None = None


def write_checkpoint(folder: Path, identity: Mapping[str, str], live: Live, progress: Progress) -> None:
    """Replace the checkpoint in `folder`. A kill at any moment leaves the old one or the new one, never a mixture."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights/{name}": value for name, value in live.network.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in progress.best_weights.items()}
    if live.average is not None:
        tensors |= {f"average/{name}": value for name, value in live.average.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for number, state in live.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{name}"] = value
            else:
                numbers.setdefault(str(number), {})[name] = value
    facts = {"identity": dict(identity), "progress": progress.to_json()}
    facts |= {"optimizer": numbers, "precision": live.precision.state_dict()}
    # One key only: safetensors writes several in no fixed order.
    header = {"training": json.dumps(facts, sort_keys=True, allow_nan=False)}
    # Clones, because safetensors refuses tensors that share memory (tied weights).
    content = save({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, header)
    write_atomically(folder / CHECKPOINT, content)


def read_checkpoint(folder: str | Path) -> tuple[dict[str, str], Progress, dict[str, Tensor]] | None:
    """Identity, progress and all tensors of the checkpoint in `folder`; None where there is none."""
    found = _read(Path(folder) / CHECKPOINT)
    if found is None:
        return None
    facts, tensors = found
    return facts["identity"], Progress.from_json(facts["progress"], _below("best", tensors)), tensors


def network_of_checkpoint(folder: str | Path, which: str = "best") -> nn.Module:
    """The network of a running, killed or finished training, on the CPU, in eval mode; `save_network` makes it a model.

    which: "best" or "last". Only for networks made by `build_network`, whose configuration the checkpoint holds.
    Raises FileNotFoundError where there is no checkpoint, SettingError where no epoch is finished ("best") or the
    network has no configuration.
    """
    if which not in ("best", "last"):
        raise SettingError(f"which is {which!r}; it must be 'best' or 'last'")
    found = _read(Path(folder) / CHECKPOINT)
    if found is None:
        raise FileNotFoundError(f"{Path(folder) / CHECKPOINT} does not exist")
    facts, tensors = found
    config = json.loads(facts["identity"]["network"])
    weights = _below("best" if which == "best" else "weights", tensors)
    if not weights:
        raise SettingError(f"the training in {folder} has finished no epoch, so that none is best; take 'last'")
    if not isinstance(config, dict):
        raise SettingError(f"the training in {folder} is of {config}, which was not made with build_network")
    network = empty_network(config)
    network.load_state_dict(weights)
    return network.eval()


def restore(folder: Path, identity: Mapping[str, str], live: Live) -> Progress:
    """Bring everything to the state of the checkpoint, if there is one, and say where to go on.

    Raises CheckpointMismatchError, naming what differs, where the checkpoint is that of another training.
    """
    found = _read(folder / CHECKPOINT)
    if found is None:
        return Progress()
    facts, tensors = found
    written = facts["identity"]
    if differing := [key for key in identity if written.get(key) != identity[key]]:
        lines = [f"{key}: checkpoint has {written.get(key)}, this call has {identity[key]}" for key in differing]
        raise CheckpointMismatchError(
            f"{folder / CHECKPOINT} belongs to another training; {'; '.join(lines)}. Take another folder to train "
            "anew, or the former settings and data to resume."
        )
    live.network.load_state_dict(_below("weights", tensors))
    live.precision.load_state_dict(facts["precision"])
    if live.average is not None:
        live.average.load_state_dict(_below("average", tensors))
    _restore_optimizer(live.optimizer, _below("optimizer", tensors), facts["optimizer"])
    return Progress.from_json(facts["progress"], _below("best", tensors))


def _restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Mapping[str, Any]]
) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in numbers.items()}
    for name, value in tensors.items():
        number, key = name.split("/", 1)
        like = parameters[int(number)]
        # Device and memory layout of the parameter; the step count has no axes and stays on the CPU.
        same = value.shape == like.shape and key != "step"
        state.setdefault(int(number), {})[key] = torch.empty_like(like.data).copy_(value) if same else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["training"])
        return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): v for name, v in tensors.items() if name.startswith(f"{prefix}/")}
