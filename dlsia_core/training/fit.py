"""The training loop: regression, inpainting and autoencoding alike."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from dlsia_core.networks.inference import deterministic, evaluating, to_device
from dlsia_core.training.errors import TrainingDivergedError
from dlsia_core.training.examples import Batch, Examples, ordered_batches, random_state, shuffled_batches
from dlsia_core.training.history import EpochRecord, Progress, WeightedMean
from dlsia_core.training.keeper import Keeper, identity_of
from dlsia_core.training.losses import Loss
from dlsia_core.training.settings import TrainSettings

logger = logging.getLogger(__name__)
EpochCallback = Callable[[EpochRecord, float], None]


@dataclass(frozen=True)
class FitResult:
    """network: with the best weights, in eval mode, on its device; stopped: "epochs" or "patience"."""

    network: nn.Module
    history: tuple[EpochRecord, ...]
    best_epoch: int
    best_loss: float
    stopped: str


def fit(
    network: nn.Module,
    training: Examples,
    loss: Loss,
    settings: TrainSettings,
    *,
    validation: Examples | None = None,
    checkpoint_folder: str | Path | None = None,
    checkpoint_seconds: float = 15.0,
    device: str | torch.device = "cpu",
    on_epoch: EpochCallback | None = None,
    max_seconds: float | None = None,
) -> FitResult:
    """Train `network` in place and leave it with the weights of its best epoch (validation loss; without: training).

    loss: a function (prediction, target, weight) -> weighted mean, or an object whose repr tells its settings.
    checkpoint_folder: where the state is kept; the same call after a kill goes on from there, to the same bits as if
        undisturbed; after the end it returns the stored result at once. None = no checkpoint.
    checkpoint_seconds: write after the first step that ends this long after the last checkpoint; 0 = after every step.
    on_epoch: called with the record of each epoch and the estimated seconds left.
    max_seconds: of this call; afterwards the state is written and TrainingTimeoutError raised: a shorter training that
        passed for a complete one would make the result depend on the machine.
    Raises TrainingDivergedError (no finite loss or gradient), CheckpointMismatchError (checkpoint of another training).
    """
    identity = identity_of(network, training, validation, loss, settings)
    run = _Run(network, loss, settings, torch.device(device))
    keeper = Keeper(checkpoint_folder, checkpoint_seconds, max_seconds, identity)
    progress = keeper.restore(network, run.optimizer)
    cuda = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), deterministic(run.device):
        while progress.epoch < settings.epochs and not progress.out_of_patience(settings.patience):
            _train_epoch(run, training, progress, keeper)
            _close_epoch(run, validation, progress)
            keeper.save_if_due(network, run.optimizer, progress)
            _report(progress, settings, on_epoch)
    keeper.save(network, run.optimizer, progress)
    network.load_state_dict(progress.best_weights)
    stopped = "epochs" if progress.epoch == settings.epochs else "patience"
    best_epoch = progress.best_epoch or 0
    return FitResult(network.eval(), tuple(progress.history), best_epoch, progress.best_loss, stopped)


class _Run:
    """Network, optimizer and device of one call of `fit`, set up by Lightning Fabric."""

    def __init__(self, network: nn.Module, loss: Loss, settings: TrainSettings, device: torch.device) -> None:
        self.network, self.loss, self.settings, self.device = to_device(network, device), loss, settings, device
        self.optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self.fabric = Fabric(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=settings.precision,  # type: ignore[arg-type]
            # Fabric would otherwise follow the variables of whatever Slurm job it happens to run in.
            plugins=[LightningEnvironment()],
        )
        self.model, self.stepper = self.fabric.setup(network, self.optimizer)

    def measure(self, batch: Batch) -> tuple[Tensor, float]:
        """Loss of a batch and what it counts in the mean over the epoch."""
        batch = batch.to(self.device)
        return self.loss(self.model(batch.inputs), batch.target, batch.weight), float(batch.weight.sum())

    def learn(self, batch: Batch, where: str) -> tuple[float, float]:
        """One step of the optimizer; returns loss and weight of the batch."""
        self.stepper.zero_grad()
        loss, weight = self.measure(batch)
        self.fabric.backward(loss)
        limit = self.settings.gradient_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        # Before the step: weights that are no numbers must reach neither the best weights nor a checkpoint.
        require_finite("loss", float(loss.detach()), where)
        require_finite("gradient norm", float(norm), where)
        self.stepper.step()
        return float(loss.detach()), weight


def _train_epoch(run: _Run, training: Examples, progress: Progress, keeper: Keeper) -> None:
    """The steps of one epoch that are still to do."""
    settings, epoch = run.settings, progress.epoch
    for group in run.optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(epoch)
    run.network.train()
    batches = shuffled_batches(len(training), settings.batch_size, settings.seed, epoch)
    for step in range(progress.step, len(batches)):
        keeper.require_time(run.network, run.optimizer, progress)
        began = time.monotonic()
        # A network's own randomness follows from (seed, epoch, step), so that a resume meets the same dropout.
        torch.manual_seed(int(random_state(settings.seed, epoch, step).integers(2**62)))
        progress.mean.add(*run.learn(training.batch(epoch, batches[step]), f"epoch {epoch}, step {step}"))
        progress.step, progress.seconds = step + 1, progress.seconds + time.monotonic() - began
        keeper.save_if_due(run.network, run.optimizer, progress)


def _close_epoch(run: _Run, validation: Examples | None, progress: Progress) -> None:
    """Validate, write the record, keep the weights (copied) if they are the best, go on to the next epoch."""
    began = time.monotonic()
    loss = None if validation is None else _validate(run, validation, f"epoch {progress.epoch}, validation")
    record = EpochRecord(
        epoch=progress.epoch,
        learning_rate=run.settings.learning_rate_at(progress.epoch),
        training_loss=progress.mean.value,
        validation_loss=loss,
        seconds=progress.seconds + time.monotonic() - began,
    )
    if record.loss < progress.best_loss:
        # .cpu() alone would return the live tensor of a network that is on the CPU.
        progress.best_weights = {name: v.detach().cpu().clone() for name, v in run.network.state_dict().items()}
        progress.best_epoch = progress.epoch
    progress.history.append(record)
    progress.epoch, progress.step, progress.seconds, progress.mean = progress.epoch + 1, 0, 0.0, WeightedMean()


def _validate(run: _Run, validation: Examples, where: str) -> float:
    """Mean loss over all validation examples; changes nothing in the network."""
    mean = WeightedMean()
    with evaluating(run.network), torch.no_grad():
        for batch in ordered_batches(validation, run.settings.batch_size):
            loss, weight = run.measure(batch)
            mean.add(float(loss), weight)
    require_finite("loss", mean.value, where)
    return mean.value


def _report(progress: Progress, settings: TrainSettings, on_epoch: EpochCallback | None) -> None:
    record = progress.history[-1]
    logger.info("epoch %d: training loss %g, validation %s", record.epoch, record.training_loss, record.validation_loss)
    if on_epoch is not None:
        mean_seconds = sum(r.seconds for r in progress.history) / len(progress.history)
        on_epoch(record, mean_seconds * (settings.epochs - progress.epoch))


def require_finite(name: str, value: float, where: str) -> None:
    """Raise TrainingDivergedError where `value` is NaN or infinite."""
    if not abs(value) < float("inf"):
        raise TrainingDivergedError(
            f"{where}: the {name} is {value}; the last checkpoint was left as it was. Look for values that are no "
            "numbers in the data, lower learning_rate, or set gradient_clip"
        )
