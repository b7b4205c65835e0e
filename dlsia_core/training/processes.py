"""Several processes that train one network: each takes a share of every batch, and all see the same numbers."""

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from numpy.typing import NDArray
from torch import nn

from dlsia_core.errors import SettingError
from dlsia_core.losses import Loss, loss_name, sees_whole_batch


def one_device(device: torch.device, precision: str) -> Fabric:
    """Fabric for this process alone."""
    return Fabric(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=precision,  # type: ignore[arg-type]
        # Fabric would otherwise follow the variables of whatever Slurm job it happens to run in.
        plugins=[LightningEnvironment()],
    )


class Processes:
    """The processes of a launched Fabric; of one process all methods are free."""

    def __init__(self, fabric: Fabric) -> None:
        if not isinstance(fabric.strategy, SingleDeviceStrategy | DDPStrategy):
            raise SettingError(f"strategy is {type(fabric.strategy).__name__}; fit knows one device, and ddp")
        self.fabric, self.size, self.rank = fabric, fabric.world_size, fabric.global_rank

    def require_same_result(self, network: nn.Module, loss: Loss) -> None:
        """Raise SettingError for what would give another result in several processes than in one."""
        if self.size == 1:
            return
        for name, module in network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                raise SettingError(
                    f"layer {name} is a batch normalization, whose statistics would be those of one process's share "
                    "of a batch; choose another normalization, or convert it to SyncBatchNorm (on GPUs)"
                )
        if sees_whole_batch(loss):
            raise SettingError(
                f"{loss_name(loss)} is no mean over pixels: the mean over {self.size} shares of a batch is not the "
                "loss of the batch; choose cross entropy or focal loss, or one process"
            )

    def share(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
        """This process's part of a batch; (its first example, False) where nothing is left for it.

        For nothing is no input for a network, and each process must take part in each step.
        """
        own = np.array_split(indices, self.size)[self.rank]
        return (own, True) if len(own) else (indices[:1], False)

    def total(self, value: float) -> float:
        """Sum over all processes."""
        if self.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.all_reduce(number, reduce_op="sum"))  # type: ignore[arg-type]

    def first(self, value: float) -> float:
        """What the first process says, so that all decide alike."""
        if self.size == 1:
            return value
        return float(self.fabric.broadcast(torch.tensor(value, dtype=torch.float64, device=self.fabric.device)))
