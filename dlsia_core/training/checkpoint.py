"""The state of a training in one file: safetensors, with the rest as JSON in its header; replaced in one step."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from dlsia_core.networks.storage import write_atomically
from dlsia_core.training.errors import CheckpointMismatchError
from dlsia_core.training.history import Progress

CHECKPOINT = "checkpoint.safetensors"


def write_checkpoint(
    folder: Path, identity: Mapping[str, str], network: nn.Module, optimizer: Optimizer, progress: Progress
) -> None:
    """Replace the checkpoint in `folder`. A kill at any moment leaves the old one or the new one, never a mixture."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in progress.best_weights.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    facts = {"identity": dict(identity), "progress": progress.to_json()}
    # One key only: safetensors writes several in no fixed order.
    header = {"training": json.dumps(facts, sort_keys=True, allow_nan=False)}
    # Clones, because safetensors refuses tensors that share memory (tied weights).
    content = save({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, header)
    write_atomically(folder / CHECKPOINT, content)


def read_checkpoint(folder: str | Path) -> tuple[dict[str, str], Progress, dict[str, Tensor]] | None:
    """Identity, progress and all tensors of the checkpoint in `folder`; None where there is none."""
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    return facts["identity"], Progress.from_json(facts["progress"], _below("best", tensors)), tensors


def restore(folder: Path, identity: Mapping[str, str], network: nn.Module, optimizer: Optimizer) -> Progress:
    """Bring network and optimizer to the state of the checkpoint, if there is one, and say where to go on.

    Raises CheckpointMismatchError, naming what differs, where the checkpoint is that of another training.
    """
    found = read_checkpoint(folder)
    if found is None:
        return Progress()
    written, progress, tensors = found
    if differing := [key for key in identity if written.get(key) != identity[key]]:
        lines = [f"{key}: checkpoint has {written.get(key)}, this call has {identity[key]}" for key in differing]
        raise CheckpointMismatchError(
            f"{folder / CHECKPOINT} belongs to another training; {'; '.join(lines)}. Take another folder to train "
            "anew, or the former settings and data to resume."
        )
    network.load_state_dict(_below("weights", tensors))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimizer", tensors).items():
        number, key = name.split("/", 1)
        like = parameters[int(number)]
        # Device and memory layout of the parameter; Adam's step count has no axes and stays on the CPU.
        same = value.shape == like.shape and key != "step"
        state.setdefault(int(number), {})[key] = torch.empty_like(like.data).copy_(value) if same else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): v for name, v in tensors.items() if name.startswith(f"{prefix}/")}
