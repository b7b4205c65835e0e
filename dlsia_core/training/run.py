"""One step of a training and one pass over the validation set, on whatever Lightning Fabric was set up for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dlsia_core.errors import SettingError
from dlsia_core.losses import Loss
from dlsia_core.networks.inference import evaluating, to_device
from dlsia_core.training.checkpoint import Live
from dlsia_core.training.errors import TrainingDivergedError
from dlsia_core.training.examples import Batch, Examples, ordered_batches
from dlsia_core.training.history import WeightedMean
from dlsia_core.training.metrics import Metric, computed
from dlsia_core.training.optimizers import build_optimizer
from dlsia_core.training.processes import Processes, one_device
from dlsia_core.training.settings import TrainSettings


class Run:
    """Network, optimizer and device of one call of `fit`, set up by Lightning Fabric."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        settings: TrainSettings,
        device: str | torch.device | None,
        fabric: Fabric | None,
    ) -> None:
        self.fabric = _fabric(settings.precision, device, fabric)
        self.device, self.loss, self.settings = self.fabric.device, loss, settings
        self.processes = Processes(self.fabric)
        self.processes.require_same_result(network, loss)
        self.network = to_device(network, self.device)
        optimizer = build_optimizer(
            settings.optimizer, settings.optimizer_settings, settings.learning_rate, network.parameters()
        )
        self.model, self.stepper = self.fabric.setup(network, optimizer)
        self.average = _averaged(network, settings.averaging) if settings.averaging else None
        self.live = Live(network, optimizer, self.fabric.strategy.precision, self.average)

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.live.optimizer.param_groups:
            group["lr"] = learning_rate

    def learn(self, batch: Batch, where: str) -> tuple[float, float]:
        """One step of the optimizer; returns loss and weight of the batch, that of all processes."""
        self.stepper.zero_grad()
        batch = batch.to(self.device)
        loss = self.loss(self.model(batch.inputs), batch.target, batch.weight)
        own = float(batch.weight.sum())
        weight = self.processes.total(own)
        # Gradients are averaged over the processes; a mean over all pixels needs them weighted by their pixels.
        share = own / weight if weight else 0.0
        self.fabric.backward(loss if self.processes.size == 1 else loss * (share * self.processes.size))
        limit = self.settings.gradient_clip or float("inf")
        norm = self.fabric.clip_gradients(self.model, self.stepper, max_norm=limit, error_if_nonfinite=False)
        value = float(loss.detach())
        if self.processes.size > 1:
            value = self.processes.total(value * share)
        # Before the step: weights that are no numbers must reach neither the best weights nor a checkpoint.
        require_finite("loss", value, where)
        if not self._scale_too_large():
            require_finite("gradient norm", float(torch.as_tensor(norm)), where)
        self.stepper.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return value, weight

    def _scale_too_large(self) -> bool:
        """True where gradients in 16-mixed may overflow: the scaler then leaves the step out and takes a smaller scale.

        At a scale of 1 and below they overflow by themselves.
        """
        return float(self.live.precision.state_dict().get("scale", 0)) > 1

    @contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Inside, the network has the weights that are validated and kept: the average, where there is one."""
        if self.average is None:
            yield
            return
        own = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.module.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def validate(
        self, validation: Examples, metrics: Sequence[Metric], prefetch: int, where: str
    ) -> tuple[float, dict[str, float]]:
        """Mean loss and metrics over all validation examples; changes nothing in the network.

        Every process takes all of them, because metrics cannot be added up, and the numbers of the first one count.
        """
        mean = WeightedMean()
        for metric in metrics:
            metric.reset()
        with evaluating(self.network), torch.no_grad():
            for batch in ordered_batches(validation, self.settings.batch_size, prefetch):
                batch = batch.to(self.device)
                logits: Tensor = self.model(batch.inputs)
                mean.add(float(self.loss(logits, batch.target, batch.weight)), float(batch.weight.sum()))
                for metric in metrics:
                    metric.update(logits, batch.target, batch.weight)
        require_finite("loss", mean.value, where)
        numbers = {name: self.processes.first(value) for name, value in computed(metrics).items()}
        return self.processes.first(mean.value), numbers


def _averaged(network: nn.Module, share: float) -> AveragedModel:
    """A running average of weights and statistics, of which each step keeps a share; the first step's are its start."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(share), use_buffers=True)  # type: ignore[no-untyped-call]


def _fabric(precision: str, device: str | torch.device | None, fabric: Fabric | None) -> Fabric:
    """The caller's Fabric, or one for the device. Raises SettingError where they contradict the settings."""
    if fabric is not None and device is not None:
        raise SettingError(f"device is {device} and a Fabric was given too, which has its own; give one of them")
    where = torch.device(device or "cpu") if fabric is None else fabric.device
    if precision == "16-mixed" and where.type != "cuda":
        raise SettingError(f"precision is '16-mixed' on {where.type}; it needs a GPU, bf16-mixed does not")
    fabric = fabric or one_device(where, precision)
    if (given := str(fabric.strategy.precision.precision)) != precision:
        raise SettingError(f"the given Fabric has precision {given}, the settings {precision}; they must agree")
    return fabric


def require_finite(name: str, value: float, where: str) -> None:
    """Raise TrainingDivergedError where `value` is NaN or infinite."""
    if not abs(value) < float("inf"):
        raise TrainingDivergedError(
            f"{where}: the {name} is {value}; the last checkpoint was left as it was. Look for values that are no "
            "numbers in the data, lower learning_rate, or set gradient_clip"
        )
